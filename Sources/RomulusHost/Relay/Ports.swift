import RomulusCore

/// What the primary's relay does to the guest itself, from its own thread.
public struct GuestPort: Sendable {
    /// Whether it has gone, and how; and whether a checkpoint of ours may have suspended it.
    public var leave: @Sendable (_ isCheckpointing: Bool) -> PrimarySession.GuestLeave?
    /// Nil where it is gone, or not to be seen.
    public var standing: @Sendable () -> GuestStanding?
    /// Whether its device model lives, where it has one: without it the guest cannot go on.
    public var isServed: @Sendable () -> Bool
    /// Its processors stand still when this returns true, whatever else happens to it, until `thaw`.
    public var freeze: @Sendable () -> Bool
    public var thaw: @Sendable () -> Bool
    /// Whoever still waits for the guest to suspend need not. True for a copy that must never run again, and is to be
    /// destroyed: it stands still as one that has suspended. False for one that has left by itself.
    public var giveUp: @Sendable (_ mustNotRun: Bool) -> Void

    public init(
        leave: @escaping @Sendable (_ isCheckpointing: Bool) -> PrimarySession.GuestLeave?,
        standing: @escaping @Sendable () -> GuestStanding?, isServed: @escaping @Sendable () -> Bool,
        freeze: @escaping @Sendable () -> Bool, thaw: @escaping @Sendable () -> Bool,
        giveUp: @escaping @Sendable (Bool) -> Void
    ) {
        self.leave = leave
        self.standing = standing
        self.isServed = isServed
        self.freeze = freeze
        self.thaw = thaw
        self.giveUp = giveUp
    }
}

/// What holds the guest's output until its epoch is committed. Used on the relay's thread only.
public protocol OutputBuffer: AnyObject {
    /// Readable when the guest's network devices, or what holds their output, may have changed: call `linksChanged`.
    var changeDescriptor: Int32 { get }
    /// Holds what has come, and again what somebody has let loose, or throws where that cannot be.
    func linksChanged() throws
    /// It was not readable just now.
    func linksAreQuiet()
    /// Closes the epoch under way and begins the next; at most one epoch may be closed and not released.
    func holdEpoch() throws
    /// Lets the closed epoch out.
    func releaseEpoch() throws
    /// Lets everything out, and holds nothing any more.
    func releaseEverything()
    /// Throws away what is held, and lets nothing out any more.
    func dropEverything()
    /// What is known of it by now.
    var held: HeldOutput { get }
    /// When that was counted which `held` said last.
    var countedAt: MonotonicTime { get }
}

extension OutputBuffer {
    public var countedAt: MonotonicTime { .now }
}

/// What waits for its epoch, and what did not find room, on all devices together.
public struct HeldOutput: Equatable, Sendable {
    public var packets = 0
    public var bytes = 0
    /// Since the run began.
    public var droppedPackets = 0

    public init(packets: Int = 0, bytes: Int = 0, droppedPackets: Int = 0) {
        self.packets = packets
        self.bytes = bytes
        self.droppedPackets = droppedPackets
    }
}
