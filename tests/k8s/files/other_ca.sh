#!/bin/sh
# Writes the certificate of a CA that has signed nothing.
set -eu
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=other -keyout other.key -out other.crt
