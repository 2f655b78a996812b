//! Profile: how to see where the Millstream process spends its time.

/// For a person.
pub(crate) const HELP: &str = "\
A profile of the Millstream process with perf (Debian: apt-get install linux-perf).

1. Build with frame pointers, so that stacks cost next to nothing to take:

     RUSTFLAGS='-C force-frame-pointers=yes' CFLAGS='-fno-omit-frame-pointer' \\
       cargo run --release -p millstream-bench --bin kafka -- \\
       --only throughput --run 'Millstream, at least once' --rounds 1 --messages 30000000

   Profiles of the release build have line tables already. Without RUSTFLAGS, take stacks with
   `--call-graph dwarf,16384` instead of `--call-graph fp`: no new build, but much more to write.

2. In another terminal, as soon as the benchmark names the process (it stands beside the bar):

     perf record -e cpu-clock -F 499 --call-graph fp -p PID -o millstream.perf -- sleep 10

   `-e cpu-clock` also works where a virtual machine has no counters. Not root: first
   `sysctl kernel.perf_event_paranoid=1`.

3. Look:

     perf report -i millstream.perf --no-children --sort comm,dso,symbol     by thread and function
     perf report -i millstream.perf --children --sort symbol                 with what they call
     perf annotate -i millstream.perf SYMBOL                                 by instruction

   Plugins run as code without names (`[JIT]` or addresses): `--sort dso` says how much they are.

On two cores the broker takes about as much as a fast contender: look at `perf top` once without -p
before you conclude that the host is what limits.";
