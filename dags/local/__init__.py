"""Airflow on one machine, without a server to look after: `make refresh`, `make up`, `make down` and `make worker`."""
