#!/bin/sh
# Starts the packed GPU bench; options as in `npm run bench:gpu -- --help`. Needs a Linux machine with a Vulkan driver, x86-64.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

# What is in the archive is unpacked once, beside it where that can be written.
home="$here/unpacked"
if [ ! -x "$home/node" ]; then
  mkdir -p "$home" 2>/dev/null || home=$(mktemp -d)
  tar -xzf "$here/payload.tar.gz" -C "$home"
fi

# A library of the system comes first: its driver was made for it. What the system lacks is taken from the archive.
PATH="${PATH:-/usr/bin:/bin}:/sbin:/usr/sbin"
known=$(ldconfig -p 2>/dev/null || true)
libraries="$home/used"
mkdir -p "$libraries"
for file in "$home"/lib/*; do
  name=$(basename "$file")
  case "$known" in
    *"$name "*) rm -f "$libraries/$name" ;;
    *) ln -sf "$file" "$libraries/$name" ;;
  esac
done
path="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
# Containers get NVIDIA's libraries in places that the linker's cache need not know.
for folder in /usr/local/nvidia/lib64 /usr/local/nvidia/lib; do
  if [ -d "$folder" ]; then path="$path:$folder"; fi
done

# The Vulkan loader finds drivers by small files in folders that it knows. Where NVIDIA's is elsewhere, or missing, it is named.
if [ -z "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ]; then
  found=""
  for file in /etc/vulkan/icd.d/*.json /usr/share/vulkan/icd.d/*.json /usr/local/share/vulkan/icd.d/*.json \
    /usr/local/etc/vulkan/icd.d/*.json; do
    if [ -e "$file" ] && grep -qi nvidia "$file"; then found="standard"; fi
  done
  if [ -z "$found" ]; then
    for file in /usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json /usr/local/nvidia/vulkan/icd.d/nvidia_icd.json; do
      if [ -z "$found" ] && [ -e "$file" ]; then found="$file"; fi
    done
    if [ -n "$found" ]; then
      VK_DRIVER_FILES="$found"
    else
      # libGLX_nvidia needs X11's libraries, libEGL_nvidia does not; both are the driver.
      for name in libEGL_nvidia.so.0 libGLX_nvidia.so.0; do
        where=$(printf '%s\n' "$known" | sed -n "s|.*$name .*=> ||p" | head -n 1)
        if [ -z "$where" ] && [ -e "/usr/local/nvidia/lib64/$name" ]; then where="/usr/local/nvidia/lib64/$name"; fi
        if [ -n "$where" ] && [ -z "${VK_DRIVER_FILES:-}" ]; then
          printf '{"file_format_version":"1.0.0","ICD":{"library_path":"%s","api_version":"1.3.0"}}\n' "$where" >"$home/nvidia.json"
          VK_DRIVER_FILES="$home/nvidia.json"
        fi
      done
    fi
    if [ -n "${VK_DRIVER_FILES:-}" ]; then export VK_DRIVER_FILES; fi
  fi
fi
# Vulkan's window system complains on standard error without it.
: "${XDG_RUNTIME_DIR:=${TMPDIR:-/tmp}}"
export XDG_RUNTIME_DIR

# Torch belongs to the first Python of the path that has it.
if [ -z "${BENCH_PYTHON:-}" ]; then
  for python in python3 python /usr/bin/python3 /opt/conda/bin/python; do
    if command -v "$python" >/dev/null 2>&1 && "$python" -c "import torch" >/dev/null 2>&1; then
      BENCH_PYTHON=$(command -v "$python")
      break
    fi
  done
  export BENCH_PYTHON="${BENCH_PYTHON:-python3}"
fi

exec env LD_LIBRARY_PATH="$path" "$home/node" "$home/app/bench/gpu/main.js" "$@"
