// Carries packets between two TUN devices, each a delay after it came: what a long line does. Arguments: two device names and
// seconds of delay. Writes a line once both devices are there, and ends with the process that started it.
import koffi from "koffi";

const [, , first, second, seconds] = process.argv;
const libc = koffi.load("libc.so.6");
const open = libc.func("int open(const char* path, int flags)");
const ioctl = libc.func("int ioctl(int fd, unsigned long request, void* data)");
const read = libc.func("intptr_t read(int fd, void* data, size_t length)");
const write = libc.func("intptr_t write(int fd, void* data, size_t length)");
const ppoll = libc.func("int ppoll(void* fds, unsigned long count, void* time, void* mask)");

// Of the Linux headers fcntl.h, linux/if_tun.h and poll.h.
const [O_RDWR, O_NONBLOCK, TUNSETIFF, IFF_TUN, IFF_NO_PI, POLLIN] = [2, 0x800, 0x400454ca, 1, 0x1000, 1];
/** The largest packet of a device. */
const LARGEST = 65536;

function openDevice(name) {
  const fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
  const request = Buffer.alloc(40); // struct ifreq: a name of 16 bytes, then flags
  request.write(name);
  request.writeUInt16LE(IFF_TUN | IFF_NO_PI, 16);
  if (fd < 0 || ioctl(fd, TUNSETIFF, request) < 0) throw new Error(`no TUN device ${name} can be made`);
  return fd;
}

const delay = Number(seconds) * 1000;
const devices = [openDevice(first), openDevice(second)];
process.stdout.write("ready\n");

/** Packets under way: they leave in the order in which they came. */
const ways = [
  { from: devices[0], to: devices[1], packets: [], next: 0 },
  { from: devices[1], to: devices[0], packets: [], next: 0 },
];
const fds = new Int32Array([devices[0], POLLIN, devices[1], POLLIN]);
const time = new BigInt64Array(2);
const room = Buffer.alloc(LARGEST);
const parent = process.ppid;
let checked = performance.now();

for (;;) {
  let due = Infinity;
  for (const way of ways) {
    for (let length = read(way.from, room, LARGEST); length > 0; length = read(way.from, room, LARGEST))
      way.packets.push({ due: performance.now() + delay, data: Buffer.from(room.subarray(0, Number(length))) });
    const now = performance.now();
    while (way.next < way.packets.length && way.packets[way.next].due <= now) {
      const { data } = way.packets[way.next];
      way.packets[way.next++] = null;
      write(way.to, data, data.length);
    }
    if (way.next === way.packets.length) [way.packets, way.next] = [[], 0];
    else due = Math.min(due, way.packets[way.next].due);
  }
  const now = performance.now();
  if (now - checked > 500) {
    checked = now;
    if (process.ppid !== parent) process.exit(0);
  }
  const left = Math.max(0, Math.min(500, due - now));
  time[0] = 0n;
  time[1] = BigInt(Math.round(left * 1e6));
  ppoll(fds, 2, time, null);
}
