import RomulusCore

/// The moments of one epoch's pause, by the helper's clock, which is `xl`'s too.
public struct EpochTimes: Equatable, Sendable {
    /// What the stock engine does not tell.
    public struct Copying: Equatable, Sendable {
        /// The log of the guest's writes has been read.
        public var logRead: MonotonicTime
        public var pagesCopied: MonotonicTime

        public init(logRead: MonotonicTime, pagesCopied: MonotonicTime) {
            self.logRead = logRead
            self.pagesCopied = pagesCopied
        }
    }

    public var epoch: Epoch
    public var requested: MonotonicTime
    public var suspended: MonotonicTime
    public var copying: Copying?
    /// Everything is copied, the machine's state too.
    public var saved: MonotonicTime
    public var outputHeld: MonotonicTime
    public var resumed: MonotonicTime

    public init(
        epoch: Epoch, requested: MonotonicTime, suspended: MonotonicTime, copying: Copying?, saved: MonotonicTime,
        outputHeld: MonotonicTime, resumed: MonotonicTime
    ) {
        self.epoch = epoch
        self.requested = requested
        self.suspended = suspended
        self.copying = copying
        self.saved = saved
        self.outputHeld = outputHeld
        self.resumed = resumed
    }

    public var pauseNanoseconds: Int64 { resumed - requested }

    static let partNames = ["suspend", "log", "copy", "state", "hold", "resume"]

    /// The pause in its parts, in the order of `partNames`: the guest's suspending, reading the log of its writes, copying pages,
    /// copying the machine's state, holding its output, its resuming. The stock engine's copying is all in one part, the third.
    public var parts: [Int64] {
        let copying = copying ?? Copying(logRead: suspended, pagesCopied: saved)
        return [
            suspended - requested, copying.logRead - suspended, copying.pagesCopied - copying.logRead,
            saved - copying.pagesCopied, outputHeld - saved, resumed - outputHeld,
        ]
    }
}
