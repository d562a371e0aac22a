"""A DICOM node: receives studies, translates the series that match, sends the results on.

    config.py   what the node does: titles, addresses, models and the series that each takes
    folder.py   the queue on disk: each study is in one folder, and moves by renaming
    receive.py  C-ECHO and C-STORE: an object is acknowledged once it is safely on disk
    work.py     a study in the queue: which series are translated, and the results
    send.py     results to their destinations
    service.py  all of it together, until it is stopped

`syndiff.node` itself imports nothing; pynetdicom is the extra `node`.
"""
