#!/bin/sh
# Runs the first Python that this package supports: $PYTHON, python3.11, python3.12 or python3.
for python in ${PYTHON:-} python3.11 python3.12 python3; do
    if "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; then
        exec "$python" "$@"
    fi
done
echo "Python 3.11 or 3.12 is needed, and was not found. PYTHON=/path/to/python make ... names one." >&2
exit 1
