-- The published tables under their names, for BI over the Thrift server. Run again after the first refresh:
--   docker-compose run --rm bi-tables
CREATE DATABASE IF NOT EXISTS marts;
CREATE TABLE IF NOT EXISTS marts.refreshes USING delta LOCATION '/data/lake/marts/refreshes';
CREATE TABLE IF NOT EXISTS marts.customer_segments USING delta LOCATION '/data/lake/marts/customer_segments';
CREATE TABLE IF NOT EXISTS marts.segment_profiles USING delta LOCATION '/data/lake/marts/segment_profiles';
CREATE TABLE IF NOT EXISTS marts.segment_moves USING delta LOCATION '/data/lake/marts/segment_moves';
