import CLinux
import Glibc
import RomulusCore

/// What `xl` and its save helper tell each other beside libxl's callbacks: fixed messages over a socket that keeps
/// message boundaries. Both ends are the same build on the same host, so numbers go as they are.
public enum HelperControl {
    /// `xl` to helper.
    public enum Order: Equatable, Sendable {
        case begin(HelperSettings)
        /// It is committed; the next one begins then.
        case commit(Epoch, nextStart: MonotonicTime)
        /// The next epoch begins at another moment than was said.
        case start(MonotonicTime)
        /// The output of the epoch that this checkpoint ends is closed: the guest may run again.
        case outputHeld(Epoch)
        /// The run is over: take no further checkpoint.
        case stop
    }

    /// Helper to `xl`.
    public enum Report: Equatable, Sendable {
        /// This epoch's checkpoint begins: from here to its `resumed` the guest's suspension is its own. `helper` is its process.
        case suspending(Epoch, helper: Int32)
        /// Somebody has paused the guest, and its checkpoint waits; or does not any more.
        case paused(Bool)
        /// Somebody else had suspended the guest when a checkpoint was to begin.
        case guestTaken
        /// The guest is suspended; it stays so until `outputHeld`.
        case suspended(Epoch)
        /// An epoch's pages are copied and the guest runs again.
        case resumed(EpochTimes)
    }

    private typealias Words = (Int64, Int64, Int64, Int64, Int64, Int64, Int64, Int64, Int64)

    public static func send(_ order: Order, on socket: Int32) -> Bool {
        switch order {
        case .begin(let settings):
            send(
                words(
                    1, Int64(settings.stagingBytes), settings.engine == .stock ? 1 : 0,
                    Int64(settings.realtimePriority),
                    settings.locksMemory ? 1 : 0), on: socket)
        case .commit(let epoch, let start): send(words(2, Int64(epoch.rawValue), start.nanoseconds), on: socket)
        case .start(let start): send(words(6, start.nanoseconds), on: socket)
        case .stop: send(words(3), on: socket)
        case .outputHeld(let epoch): send(words(4, Int64(epoch.rawValue)), on: socket)
        }
    }

    public static func send(_ report: Report, on socket: Int32) -> Bool {
        switch report {
        case .resumed(let times):
            send(
                words(
                    16, Int64(times.epoch.rawValue), times.requested.nanoseconds, times.suspended.nanoseconds,
                    times.copying?.logRead.nanoseconds ?? 0, times.copying?.pagesCopied.nanoseconds ?? 0,
                    times.saved.nanoseconds, times.outputHeld.nanoseconds, times.resumed.nanoseconds
                ), on: socket)
        case .suspending(let epoch, let helper): send(words(17, Int64(epoch.rawValue), Int64(helper)), on: socket)
        case .suspended(let epoch): send(words(18, Int64(epoch.rawValue)), on: socket)
        case .guestTaken: send(words(19), on: socket)
        case .paused(let isPaused): send(words(20, isPaused ? 1 : 0), on: socket)
        }
    }

    public enum Received<Message> {
        case message(Message)
        case nothing
        case closed
    }

    /// Does not block.
    public static func receiveOrder(from socket: Int32) -> Received<Order> {
        receive(from: socket) { words in
            switch words.0 {
            case 1:
                .begin(
                    HelperSettings(
                        stagingBytes: Int(words.1), engine: words.2 == 1 ? .stock : .native,
                        realtimePriority: Int(words.3), locksMemory: words.4 == 1))
            case 2:
                .commit(
                    Epoch(rawValue: UInt64(bitPattern: words.1)), nextStart: MonotonicTime(nanoseconds: words.2))
            case 6: .start(MonotonicTime(nanoseconds: words.1))
            case 3: .stop
            case 4: .outputHeld(Epoch(rawValue: UInt64(bitPattern: words.1)))
            default: nil
            }
        }
    }

    /// Does not block.
    public static func receiveReport(from socket: Int32) -> Received<Report> {
        receive(from: socket) { words in
            switch words.0 {
            case 16: .resumed(times(words))
            case 17:
                .suspending(Epoch(rawValue: UInt64(bitPattern: words.1)), helper: Int32(truncatingIfNeeded: words.2))
            case 18: .suspended(Epoch(rawValue: UInt64(bitPattern: words.1)))
            case 19: .guestTaken
            case 20: .paused(words.1 == 1)
            default: nil
            }
        }
    }

    private static func times(_ words: Words) -> EpochTimes {
        func time(_ nanoseconds: Int64) -> MonotonicTime { MonotonicTime(nanoseconds: nanoseconds) }
        return EpochTimes(
            epoch: Epoch(rawValue: UInt64(bitPattern: words.1)), requested: time(words.2), suspended: time(words.3),
            copying: words.4 == 0 ? nil : .init(logRead: time(words.4), pagesCopied: time(words.5)),
            saved: time(words.6), outputHeld: time(words.7), resumed: time(words.8))
    }

    /// What a message does not have is zero.
    private static func words(
        _ kind: Int64, _ one: Int64 = 0, _ two: Int64 = 0, _ three: Int64 = 0, _ four: Int64 = 0, _ five: Int64 = 0,
        _ six: Int64 = 0, _ seven: Int64 = 0, _ eight: Int64 = 0
    ) -> Words { (kind, one, two, three, four, five, six, seven, eight) }

    private static func send(_ words: Words, on socket: Int32) -> Bool {
        withUnsafeBytes(of: words) { bytes in
            Glibc.send(socket, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count
        }
    }

    private static func receive<Message>(from socket: Int32, _ decode: (Words) -> Message?) -> Received<Message> {
        var words = words(0)
        while true {
            let count = withUnsafeMutableBytes(of: &words) {
                recv(socket, $0.baseAddress, $0.count, romulus_do_not_wait)
            }
            if count == MemoryLayout<Words>.size, let message = decode(words) { return .message(message) }
            // A peer that was killed with messages of ours unread makes the first read after it fail so; what it had
            // sent itself is still to be read.
            if count < 0, errno == EINTR || errno == ECONNRESET { continue }
            return count < 0 && errno == EAGAIN ? .nothing : .closed
        }
    }
}

/// What the helper is to know of a run before it begins, and so is the guard.
public struct HelperSettings: Equatable, Sendable {
    /// Memory for dirty pages, on either side of the pipe between helper and `xl`.
    public var stagingBytes: Int
    public var engine: Engine
    /// Of the guard, as of the relay's thread; 0 is none.
    public var realtimePriority: Int
    public var locksMemory: Bool

    public init(stagingBytes: Int, engine: Engine, realtimePriority: Int = 0, locksMemory: Bool = false) {
        self.stagingBytes = stagingBytes
        self.engine = engine
        self.realtimePriority = realtimePriority
        self.locksMemory = locksMemory
    }
}
