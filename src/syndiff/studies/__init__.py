"""The paper's tables as commands: a study is a table of cells, each a training and its scores."""
