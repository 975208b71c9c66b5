#!/bin/sh
# Writes into the current folder: a CA, a certificate of the API server and one of a cluster administrator, and the key pair for
# service account tokens. A second run replaces the certificates and keeps the key pair.
set -eu

sign() { # file, subject, extension
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "$2" -keyout "$1.key" -out "$1.csr"
    echo "$3" >"$1.ext"
    openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile "$1.ext" -out "$1.crt"
}

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=ca -keyout ca.key -out ca.crt
sign api /CN=kube-apiserver 'subjectAltName=DNS:localhost,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:10.96.0.1'
sign admin /O=system:masters/CN=admin extendedKeyUsage=clientAuth
[ -e sa.key ] || openssl genrsa -out sa.key 2048
openssl rsa -in sa.key -pubout -out sa.pub
