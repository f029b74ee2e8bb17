#!/bin/sh
# Makes the secrets that compose.yaml names, where they are missing: random passwords, and an empty key of CryptoCompare.
set -eu
folder=${1:-$(dirname "$0")/secrets}
umask 077
mkdir -p "$folder"
for name in grafana_password postgres_password web_token; do
  [ -s "$folder/$name" ] || head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' > "$folder/$name"
done
[ -e "$folder/cryptocompare_api_key" ] || : > "$folder/cryptocompare_api_key"
chmod 644 "$folder"/* # containers read them as users of their own; the folder itself is closed to others
