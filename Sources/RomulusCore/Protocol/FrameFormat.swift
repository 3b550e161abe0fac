/// Frames: what both directions consist of once a receiver has answered; docs/protocol.md, "Frames".
public enum FrameFormat {
    /// Type (4 bytes), payload length (4), sequence number (4), CRC32C of those twelve bytes (4), CRC32C of those twelve
    /// bytes and the payload (4).
    public static let headerBytes = 20
    /// What both checksums cover of the header. Its own is there because a damaged length would be waited for.
    static let checkedHeaderBytes = 12
    /// Large enough that a header costs nothing, small enough that a heartbeat never waits long behind one.
    public static let maximumPayloadBytes = 256 << 10

    /// Zero is not a type, so that a page of zeroes is not a frame.
    public enum FrameType: UInt32, Sendable {
        // Primary to backup.
        case data = 1
        case epochEnd = 2
        case encodedData = 5
        // Either way.
        case heartbeat = 3
        case farewell = 4
        // Backup to primary.
        case answer = 16
        case acknowledgement = 17
        case heard = 18
    }
}

/// Why a side takes its leave. Each is clear evidence for the other side: no clock is asked.
public enum FarewellReason: UInt32, Sendable {
    // Said by the primary.
    /// The admin ended protection; the guest goes on at the primary.
    case protectionEnded = 1
    /// The guest shut itself down, rebooted or crashed.
    case guestShutDown = 2
    /// Protection failed at the primary (a helper died, say); the guest goes on there.
    case primaryFailed = 3
    /// The admin destroyed the primary's copy, to move the guest here.
    case primaryDestroyed = 4
    // Said by the backup.
    /// The replica is gone; the backup will not activate it.
    case replicaDiscarded = 16
    /// The replica is being activated: the primary's copy must not run.
    case replicaActivated = 17
}

/// A message other than DATA, whose payload is a piece of the stock stream.
public enum Message: Equatable, Sendable {
    /// An epoch's last DATA frame has been sent; `streamBytes` is what its DATA frames held.
    case epochEnd(Epoch, streamBytes: UInt64)
    /// The primary's "I am here", with the last epoch sent.
    case heartbeat(Epoch)
    case farewell(FarewellReason, text: String)
    /// `pageSlots`: how many pages the backup keeps for ENCODED_DATA.
    case answer(
        version: ProtocolVersion, arbiter: ArbiterKind, features: Features, detectTimeoutMilliseconds: UInt32,
        pageSlots: UInt32)
    /// All of this epoch is in the backup's memory. `frames` as in `heard`.
    case acknowledgement(Epoch, frames: UInt64)
    /// The backup's "I am here": it has had that many of the primary's frames, and has not given the primary up.
    case heard(frames: UInt64)

    public static let maximumTextBytes = 512
}
