#!/bin/sh
# First process of the smp86 guest. Options on the kernel command line:
#   smp86.run=BASE64   run this shell script, then power off
#   root=DEVICE        go on with /sbin/init of the file system on that disk
#   smp86.stay         after smp86.run, give a shell instead of powering off
export PATH=/sbin:/bin:/usr/sbin:/usr/bin HOME=/root TERM=vt100 LANG=C
export PS1='smp86:\w\$ '

# What busybox's poweroff, halt and reboot send to process 1.
trap 'sync; poweroff -f' USR2
trap 'sync; halt -f' USR1
trap 'sync; reboot -f' TERM

# Runs a command in a way that lets the traps act meanwhile.
attend() {
  "$@" </dev/console &
  wait $!
}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null || mdev -s
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
[ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd
hostname smp86
[ -L /bin/ls ] || /bin/busybox --install -s /bin

if [ -e /lib/modules/order ]; then
  while read -r module; do
    insmod "/lib/modules/$module.ko" || echo "insmod $module failed"
  done </lib/modules/order
fi

ip link set lo up 2>/dev/null || ifconfig lo 127.0.0.1 up 2>/dev/null

run= stay= root=
for word in $(cat /proc/cmdline); do
  case $word in
    root=*) root=${word#root=} ;;
    smp86.run=*) run=${word#smp86.run=} ;;
    smp86.stay) stay=1 ;;
  esac
done

if [ -n "$root" ]; then
  tries=0
  while [ ! -b "$root" ] && [ $tries -lt 200 ]; do
    sleep 0.1
    tries=$((tries + 1))
  done
  mkdir -p /sysroot
  if mount -o ro "$root" /sysroot && [ -x /sysroot/sbin/init ]; then
    umount /dev/pts /dev/shm /tmp /run /sys
    mount --move /dev /sysroot/dev
    umount /proc
    exec switch_root /sysroot /sbin/init
  fi
  echo "no /sbin/init on $root: going on without it"
fi

memory=$(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo)
echo
echo "smp86 guest: $(uname -s) $(uname -r) $(uname -m), $(nproc) CPUs, $((memory / 1024)) MiB, up $(cut -d' ' -f1 /proc/uptime) s"
echo

cd /root
[ -x /etc/rc ] && attend /etc/rc
if [ -n "$run" ]; then
  echo "$run" | base64 -d >/run/script
  attend sh /run/script
  echo "smp86-exit: $?"
  [ -n "$stay" ] || poweroff -f
fi

# A session of its own on the console's terminal, so that job control and ^C work.
while :; do
  attend setsid cttyhack sh -i
  echo "the shell has ended; a new one follows (poweroff ends the machine)"
done
