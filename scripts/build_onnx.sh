#!/usr/bin/env bash
# Makes src/io/onnx/proto/onnx_pb.ts from onnx.proto. Needs protoc (Debian: protobuf-compiler); run it when onnx.proto has changed.
set -euo pipefail
cd "$(dirname "$0")/../src/io/onnx/proto"
version=$(node -p 'require("../../../../package.json").dependencies["@bufbuild/protobuf"]')
plugin=$(mktemp -d)
trap 'rm -rf "$plugin"' EXIT
npm install --silent --prefix "$plugin" "@bufbuild/protoc-gen-es@$version"
protoc --plugin="$plugin/node_modules/.bin/protoc-gen-es" --es_out=. --es_opt=target=ts,import_extension=js onnx.proto
