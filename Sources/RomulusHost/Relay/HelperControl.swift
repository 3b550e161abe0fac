import CLinux
import Glibc
import RomulusCore

/// What `xl` and its save helper tell each other beside libxl's callbacks: fixed messages over a socket that keeps
/// message boundaries. Both ends are the same build on the same host, so numbers go as they are.
public enum HelperControl {
    /// `xl` to helper.
    public enum Order: Equatable, Sendable {
        case begin(periodNanoseconds: Int64)
        case commit(Epoch)
        /// The output of the epoch that this checkpoint ends is closed: the guest may run again.
        case outputHeld(Epoch)
        /// The run is over: take no further checkpoint.
        case stop
        /// It is decided that the guest runs on here.
        case guestGoesOn
    }

    /// Helper to `xl`.
    public enum Report: Equatable, Sendable {
        /// The guest is suspended; it stays so until `outputHeld`.
        case suspended(Epoch)
        /// An epoch's pages are copied and the guest runs again.
        case resumed(EpochTimes)
        case overruns(Int)
    }

    private static let messageWords = 6
    private typealias Words = (Int64, Int64, Int64, Int64, Int64, Int64)

    public static func send(_ order: Order, on socket: Int32) -> Bool {
        switch order {
        case .begin(let period): send((1, period, 0, 0, 0, 0), on: socket)
        case .commit(let epoch): send((2, Int64(epoch.rawValue), 0, 0, 0, 0), on: socket)
        case .stop: send((3, 0, 0, 0, 0, 0), on: socket)
        case .guestGoesOn: send((5, 0, 0, 0, 0, 0), on: socket)
        case .outputHeld(let epoch): send((4, Int64(epoch.rawValue), 0, 0, 0, 0), on: socket)
        }
    }

    public static func send(_ report: Report, on socket: Int32) -> Bool {
        switch report {
        case .resumed(let times):
            send(
                (
                    16, Int64(times.epoch.rawValue), times.requested.nanoseconds, times.suspended.nanoseconds,
                    times.copied.nanoseconds, times.resumed.nanoseconds
                ), on: socket)
        case .overruns(let count): send((17, Int64(count), 0, 0, 0, 0), on: socket)
        case .suspended(let epoch): send((18, Int64(epoch.rawValue), 0, 0, 0, 0), on: socket)
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
            case 1: .begin(periodNanoseconds: words.1)
            case 2: .commit(Epoch(rawValue: UInt64(bitPattern: words.1)))
            case 3: .stop
            case 5: .guestGoesOn
            case 4: .outputHeld(Epoch(rawValue: UInt64(bitPattern: words.1)))
            default: nil
            }
        }
    }

    /// Does not block.
    public static func receiveReport(from socket: Int32) -> Received<Report> {
        receive(from: socket) { words in
            switch words.0 {
            case 16:
                .resumed(
                    EpochTimes(
                        epoch: Epoch(rawValue: UInt64(bitPattern: words.1)),
                        requested: MonotonicTime(nanoseconds: words.2),
                        suspended: MonotonicTime(nanoseconds: words.3),
                        copied: MonotonicTime(nanoseconds: words.4),
                        resumed: MonotonicTime(nanoseconds: words.5)))
            case 17: .overruns(Int(words.1))
            case 18: .suspended(Epoch(rawValue: UInt64(bitPattern: words.1)))
            default: nil
            }
        }
    }

    private static func send(_ words: Words, on socket: Int32) -> Bool {
        withUnsafeBytes(of: words) { bytes in
            Glibc.send(socket, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count
        }
    }

    private static func receive<Message>(from socket: Int32, _ decode: (Words) -> Message?) -> Received<Message> {
        var words: Words = (0, 0, 0, 0, 0, 0)
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

/// The moments of one epoch's pause, by the helper's clock, which is `xl`'s too.
public struct EpochTimes: Equatable, Sendable {
    public var epoch: Epoch
    public var requested: MonotonicTime
    public var suspended: MonotonicTime
    public var copied: MonotonicTime
    public var resumed: MonotonicTime

    public init(
        epoch: Epoch, requested: MonotonicTime, suspended: MonotonicTime, copied: MonotonicTime, resumed: MonotonicTime
    ) {
        self.epoch = epoch
        self.requested = requested
        self.suspended = suspended
        self.copied = copied
        self.resumed = resumed
    }

    public var pauseNanoseconds: Int64 { resumed - requested }
}
