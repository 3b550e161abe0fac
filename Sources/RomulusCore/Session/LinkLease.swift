/// The primary's right to run its guest, lent by the backup for as long as the backup hears.
///
/// That the primary hears the backup proves nothing: a link can be cut in one direction. What counts is what the backup
/// is known to have heard. Each of its messages says how many frames it has had, so the primary knows of a frame that
/// arrived, and when it composed that frame. The backup gives the primary up T after the last byte by its own clock,
/// that is no earlier than T after that frame was composed. The lease therefore ends 3T/4 after the composing, by the
/// primary's clock: then the guest is frozen, and stands still before the backup can take over.
///
/// Only monotonic clocks are read, each on its own host. The quarter is for clocks that differ and for a thread that
/// wakes late: with rates within one part in eight of true time, 3/4 ÷ 7/8 < 1 ÷ 9/8.
public struct LinkLease: Sendable {
    private struct Mark {
        var frames: UInt64
        var bytes: UInt64
        var composedAt: MonotonicTime
    }

    public let lengthNanoseconds: Int64
    /// Composed and not known to have been heard, oldest first.
    private var marks: [Mark] = []
    private var composed = Mark(frames: 0, bytes: 0, composedAt: MonotonicTime(nanoseconds: 0))
    private var heardFrames: UInt64 = 0
    private var heardBytes: UInt64 = 0
    private var lastDataFrame: UInt64 = 0
    private var renewedAt: MonotonicTime
    public private(set) var window: SendWindow

    public init(times: LinkTimes, now: MonotonicTime) {
        lengthNanoseconds = times.primaryDeadlineNanoseconds
        window = SendWindow(times: times)
        renewedAt = now
    }

    public var deadline: MonotonicTime { renewedAt + lengthNanoseconds }
    public var unheardBytes: UInt64 { composed.bytes - heardBytes }
    /// Nothing but messages is under way.
    public var isDataHeard: Bool { heardFrames >= lastDataFrame }
    /// More may be composed without delaying the signs of life behind it.
    public var hasRoom: Bool { unheardBytes < window.limitBytes }

    public mutating func frameComposed(bytes: Int, isData: Bool, at now: MonotonicTime) {
        composed = Mark(frames: composed.frames + 1, bytes: composed.bytes + UInt64(bytes), composedAt: now)
        if isData { lastDataFrame = composed.frames }
        if marks.count < Self.longestMarks {
            marks.append(composed)
        } else {
            // As if composed when the one before was: the lease is only ever shorter for it.
            marks[marks.count - 1].frames = composed.frames
            marks[marks.count - 1].bytes = composed.bytes
        }
    }
    private static let longestMarks = 4096

    /// There is no replica yet that could take over, but with the frame composed now there will be.
    public mutating func begin(at now: MonotonicTime) { renewedAt = max(renewedAt, now) }

    /// - Returns: false for a claim that cannot be true.
    public mutating func heard(frames: UInt64, at now: MonotonicTime) -> Bool {
        guard frames >= heardFrames, frames <= composed.frames else { return false }
        heardFrames = frames
        let count = marks.firstIndex { $0.frames > frames } ?? marks.count
        guard count > 0 else { return true }
        window.heard(afterNanoseconds: now - marks[count - 1].composedAt, wasFull: !hasRoom, at: now)
        renewedAt = max(renewedAt, marks[count - 1].composedAt)
        heardBytes = marks[count - 1].bytes
        marks.removeFirst(count)
        return true
    }
}

/// How many bytes may be under way without having been heard: as many as arrive within an eighth of the timeout, so that
/// no queue (a pipe, ssh's window, a socket's buffer) holds a sign of life back for long.
public struct SendWindow: Sendable {
    public static let leastBytes: UInt64 = 512 << 10
    public static let mostBytes: UInt64 = 64 << 20

    public private(set) var limitBytes: UInt64 = 2 << 20
    private let goalNanoseconds: Int64
    private var nextChange: MonotonicTime?

    init(times: LinkTimes) { goalNanoseconds = times.heartbeatNanoseconds }

    /// At most one change while what was sent before it is still being heard.
    mutating func heard(afterNanoseconds delay: Int64, wasFull: Bool, at now: MonotonicTime) {
        if let nextChange, now < nextChange { return }
        if delay > goalNanoseconds {
            limitBytes = max(limitBytes / 2, Self.leastBytes)
        } else if wasFull, delay < goalNanoseconds / 2 {
            limitBytes = min(limitBytes * 2, Self.mostBytes)
        } else {
            return
        }
        nextChange = now + delay
    }
}
