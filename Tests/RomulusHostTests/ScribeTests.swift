import CLinux
import Glibc
import RomulusCore
import Synchronization
import Testing

@testable import RomulusHost

/// Whoever speaks is not held up by those who do not listen, and what was said is there in the end.
@Suite struct ScribeTests {
    private let folder = TestFolder()
    private var events: EventFile { EventFile(path: folder("events"), limitBytes: 1 << 20) }

    /// A stopped terminal: a pipe that is full.
    private final class Terminal: Sendable {
        let reader: Descriptor
        let writer: Descriptor
        private let filled: Int

        init(isFull: Bool) throws {
            let pipe = try Descriptor.pipe(bytes: 4096)
            reader = try Descriptor.duplicate(pipe.one.raw)
            writer = try Descriptor.duplicate(pipe.other.raw)
            var filled = 0
            let flags = DescriptorIO.setNonBlocking(writer.raw)
            let byte = [UInt8](repeating: UInt8(ascii: "\n"), count: 4096)
            while isFull {
                let count = write(writer.raw, byte, byte.count)
                if count <= 0 { break }
                filled += count
            }
            DescriptorIO.restoreFlags(writer.raw, flags)
            self.filled = filled
        }

        /// What it shows from now on until nothing comes for a while, in lines.
        func lines() -> [String] {
            var bytes: [UInt8] = []
            var chunk = [UInt8](repeating: 0, count: 4096)
            var polls = PollSet()
            polls.add(reader.raw, reading: true)
            while true {
                polls.wait(until: .now + .nanoseconds(milliseconds: 300))
                guard polls.isReady(0) else { break }
                let count = read(reader.raw, &chunk, chunk.count)
                if count <= 0 { break }
                bytes += chunk.prefix(count)
            }
            return String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init)
        }
    }

    private func milliseconds(of body: () throws -> Void) rethrows -> Int {
        let begin = MonotonicTime.now
        try body()
        return (MonotonicTime.now - begin).inMilliseconds
    }

    private func eventually(_ condition: () -> Bool) -> Bool {
        for _ in 0..<500 {
            if condition() { return true }
            usleep(10_000)
        }
        return false
    }

    @Test func aTerminalThatIsStoppedHoldsUpNobody() throws {
        let terminal = try Terminal(isFull: true)
        let log = Log(guest: "web", events: events, terminal: terminal.writer.raw, isAside: true)
        let taken = milliseconds { for number in 1...3 { log.note("line \(number)") } }
        #expect(taken < 1000)
        // And does not silence the others.
        #expect(eventually { events.events()?.count == 3 })
        #expect(terminal.lines() == (1...3).map { "romulus: web: line \($0)" })
    }

    @Test func whatFindsNoRoomIsCountedAndSaid() throws {
        let terminal = try Terminal(isFull: true)
        let log = Log(guest: "web", terminal: terminal.writer.raw, isAside: true)
        for number in 1...1000 { log.note("line \(number)") }
        // Where lines are missing, and only there, it says how many; however late the scribe comes to write.
        var told = 0
        var warnings = 0
        for _ in 0..<30 where told < 1000 {
            for line in terminal.lines() {
                let words = line.split(separator: " ")
                if words[2] == "line" {
                    told += 1
                    #expect(line == "romulus: web: line \(told)")
                } else {
                    let lost = try #require(Int(words[3]))
                    #expect(line.hasPrefix("romulus: web: warning: \(lost) lines are left out here"))
                    told += lost
                    warnings += 1
                }
            }
        }
        #expect(told == 1000)
        // What is being written, and what lies on the desk meanwhile.
        #expect(warnings > 0)
        log.note("later")
        #expect(terminal.lines() == ["romulus: web: later"])
    }

    @Test func aLockOnTheFileOfEventsHoldsUpNobody() throws {
        let terminal = try Terminal(isFull: false)
        let log = Log(guest: "web", events: events, terminal: terminal.writer.raw, isAside: true)
        let lock = Descriptor(owning: open(folder("events"), O_RDWR | O_CREAT | O_CLOEXEC, 0o640))
        #expect(flock(lock.raw, LOCK_EX) == 0)
        #expect(milliseconds { for number in 1...3 { log.error("line \(number)") } } < 1000)
        #expect(terminal.lines().count == 3)
        #expect(events.events() == [])
        flock(lock.raw, LOCK_UN)
        #expect(eventually { events.events()?.map(\.text) == ["line 1", "line 2", "line 3"] })
    }

    @Test func theLastLinesAreThereWhenItIsDrained() throws {
        let log = Log(guest: "web", events: events, terminal: try Terminal(isFull: false).writer.raw, isAside: true)
        for number in 1...100 { log.note("line \(number)") }
        log.drain()
        #expect(events.events()?.map(\.text) == (1...100).map { "line \($0)" })
    }

    @Test func drainingIsNotWaitedForInVain() throws {
        let terminal = try Terminal(isFull: true)
        let log = Log(guest: "web", terminal: terminal.writer.raw, isAside: true)
        log.note("nobody reads this")
        let taken = milliseconds { log.drain(milliseconds: 200) }
        #expect((200..<2000).contains(taken))
        #expect(terminal.lines().count == 1)
    }

    @Test func aDiskThatIsStuckHoldsNoEpochUp() throws {
        // Its reader does not read.
        #expect(mkfifo(folder("epochs"), 0o600) == 0)
        let reader = Descriptor(owning: open(folder("epochs"), O_RDONLY | O_NONBLOCK | O_CLOEXEC))
        let trace = try EpochTrace(path: folder("epochs"), guest: "web")
        var telemetry = RunTelemetry(guest: "web", trace: trace, metrics: nil)
        let taken = milliseconds {
            for number in UInt64(1)...2000 {
                let time = MonotonicTime.now
                telemetry.resumed(
                    EpochTimes(
                        epoch: Epoch(rawValue: number), requested: time, suspended: time, copying: nil, saved: time,
                        outputHeld: time, resumed: time))
                telemetry.sent(EpochSize(pages: 1, streamBytes: 2, linkBytes: 3))
                _ = telemetry.committed(Epoch(rawValue: number))
            }
        }
        #expect(taken < 1000)
        withExtendedLifetime(reader) {}
    }

    @Test func jobsAreDoneInTheirOrder() throws {
        let done = Done()
        let scribe = try Scribe(name: "test")
        for number in 0..<100 { scribe.take { done.numbers.withLock { $0.append(number) } } }
        #expect(scribe.drain(until: .now + 5_000_000_000))
        #expect(done.numbers.withLock { $0 } == Array(0..<100))
    }

    private final class Done: Sendable {
        let numbers = Mutex<[Int]>([])
    }
}

extension Descriptor {
    /// dup(2), close-on-exec.
    fileprivate static func duplicate(_ raw: Int32) throws(SystemError) -> Descriptor {
        let copy = fcntl(raw, F_DUPFD_CLOEXEC, 3)
        guard copy >= 0 else { throw SystemError("dup") }
        return Descriptor(owning: copy)
    }
}
