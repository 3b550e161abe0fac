import Glibc
import RomulusHook
import RomulusHost

// `xl remus` as its guard knows it: forks the guard, and is there until it is killed or the run is over.
//
//     guarded-xl DOMAIN PRIORITY LOCKS LINK LEASE HELPER MARK
//
// The last four are numbers of descriptors that it has inherited. Its standard input says `b' for the run's begin and `o' when it
// is over; `?' asks whether the guard is there.

let numbers = Array(CommandLine.arguments.dropFirst().compactMap { Int32($0) })
guard numbers.count == 7 else { exit(2) }
// What whoever runs the tests has left open is none of it.
for raw in 3..<Int32(1024) where !numbers[3...].contains(raw) { close(raw) }
for raw in numbers[3...] { DescriptorIO.setCloseOnExec(raw, true) }
let guardian = try Guard(
    domain: UInt32(numbers[0]), link: [numbers[3], -1], lease: SharedLease(file: Descriptor(owning: numbers[4])),
    helper: Descriptor(owning: numbers[5]), helperMark: Descriptor(owning: numbers[6]))
var word: UInt8 = 0
while read(0, &word, 1) == 1 {
    switch word {
    case UInt8(ascii: "b"):
        guardian.begin(
            HelperSettings(
                stagingBytes: 0, engine: .native, realtimePriority: Int(numbers[1]), locksMemory: numbers[2] == 1))
    case UInt8(ascii: "?"):
        let answer = guardian.isThere ? "guarded\n" : "unguarded\n"
        _ = write(2, answer, answer.utf8.count)
    case UInt8(ascii: "o"):
        guardian.relieve()
        exit(0)
    default: exit(2)
    }
}
// Whoever plays with it has gone.
exit(3)
