import RomulusCore

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
