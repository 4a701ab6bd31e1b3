# One image for CPU and GPU: the pinned torch brings its CUDA libraries along, the host brings the driver.
#   docker build -t entpruner-studio .
#   docker run --rm -p 127.0.0.1:8501:8501 -v entpruner:/workspace entpruner-studio          (add --gpus all for a GPU)
FROM python:3.11-slim

RUN useradd --create-home --uid 1000 studio \
    && install -d -o studio -g studio /studio /workspace
USER studio
WORKDIR /studio

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PATH=/home/studio/venv/bin:$PATH
COPY --chown=studio requirements.txt .
RUN python -m venv /home/studio/venv && pip install --no-cache-dir -r requirements.txt
COPY --chown=studio . .

ENV ENTPRUNER_WORKSPACE=/workspace
VOLUME /workspace
EXPOSE 8501
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s CMD ["python", "-m", "app", "--check"]
# inside a container 0.0.0.0 is the container; -p 127.0.0.1:… decides who may come in
CMD ["python", "-m", "app", "--address", "0.0.0.0"]
