#!/bin/sh
# Tries whether pictures can be drawn. Where they cannot, root gets Mesa by apt-get; anyone else is told
# what to install, and sudo is used only when asked for: `make opengl INSTALL=1`.
# Always ends well: the demo goes on without its video, and tests that draw fail by themselves.
python=$1
packages="libegl1 libopengl0 libgl1-mesa-dri"

draws() {
    "$python" -c 'from aime_gym.envs.renderer import make_gl_context; make_gl_context(64, 64)' 2>/dev/null
}

install() {
    [ -z "${MUJOCO_GL:-}" ] && command -v apt-get >/dev/null || return 1
    root=""
    if [ "$(id -u)" != 0 ]; then
        [ -n "${INSTALL:-}" ] || return 1
        root="sudo"
    fi
    echo "OpenGL is missing; installing $packages."
    $root apt-get update -qq && $root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends $packages
}

draws || { install && draws; } || cat >&2 <<END
------------------------------------------------------------------------------------------
 OpenGL does not work here, so nothing can draw pictures: no videos, no visual setup.
 To mend it on Debian or Ubuntu:  make opengl INSTALL=1
 or:  sudo apt-get install $packages
 MUJOCO_GL must be unset, or egl, osmesa or glfw. Tests that draw will fail.
------------------------------------------------------------------------------------------
END
