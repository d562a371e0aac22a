# The BIDS app: docker run -v STUDY:/data:ro -v OUT:/out syndiff /data /out participant
FROM python:3.12-slim

# The CPU build of torch is a tenth of the one with CUDA. For a GPU:
# docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126 .
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

WORKDIR /opt/syndiff
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY src ./src
RUN pip install --no-cache-dir --extra-index-url "${TORCH_INDEX}" --constraint constraints.txt . \
    && rm -rf src \
    && useradd --create-home syndiff

USER syndiff
WORKDIR /home/syndiff
ENTRYPOINT ["syndiff", "bids"]
CMD ["--help"]
