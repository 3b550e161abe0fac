/// Cuts the stock stream into the units that go onto the link, and knows where private records may stand between them.
///
/// Nothing is copied: a unit is a number of bytes at the head of the staging ring, with what goes before it.
public struct OutgoingStream {
    /// What the link's writer reports to the session once the unit has been written to its last byte.
    public enum Landmark: Equatable, Sendable {
        /// libxc's headers have been written: the announcement's place.
        case headersEnd
        /// Frames may begin here.
        case recordBoundary
        /// The first CHECKPOINT has been written.
        case firstCheckpoint
        /// CHECKPOINT_END has been written.
        case checkpointEnd(pages: Int, streamBytes: UInt64)
    }

    public struct Unit: Equatable, Sendable {
        public var payloadBytes: Int
        public var landmark: Landmark?
    }

    var cursor = StreamCursor()
    private var hasSeenCheckpoint = false
    var epochBytes: UInt64 = 0

    /// Where frames may begin is a landmark only while somebody waits for it.
    public var isLookingForRecordBoundary = false

    public init() {}

    /// What makes a stock backup let go of its replica where the stream ends now; nil where it has none.
    public var stockFarewell: [UInt8]? { hasSeenCheckpoint ? StockFarewell.words(after: cursor) : nil }

    /// The next unit of what `ring` holds, or nil when it is empty. At most one frame's payload long.
    public mutating func nextUnit(of ring: StagingRing) throws(StreamError) -> Unit? {
        let (first, second) = ring.storedParts(limit: FrameFormat.maximumPayloadBytes)
        var unit = Unit(payloadBytes: 0, landmark: nil)
        for part in [first, second] {
            var offset = 0
            while offset < part.count {
                let (passed, boundary) = try cursor.advance(over: part.part(from: offset))
                offset += passed
                unit.payloadBytes += passed
                epochBytes &+= UInt64(passed)
                if let boundary, let landmark = landmark(at: boundary) {
                    unit.landmark = landmark
                    return unit
                }
            }
        }
        return unit.payloadBytes == 0 ? nil : unit
    }

    /// DATA frames count an epoch's bytes from where frames begin.
    public mutating func framesBegin() {
        epochBytes = 0
        isLookingForRecordBoundary = false
    }

    mutating func landmark(at boundary: StreamCursor.Boundary) -> Landmark? {
        switch boundary {
        case .libxcHeaders:
            return .headersEnd
        case .libxcRecord(.checkpoint):
            defer { hasSeenCheckpoint = true }
            return hasSeenCheckpoint ? nil : .firstCheckpoint
        case .libxlRecord(.checkpointEnd):
            defer { epochBytes = 0 }
            return .checkpointEnd(pages: cursor.takePageCount(), streamBytes: epochBytes)
        case .libxcRecord where isLookingForRecordBoundary && !hasSeenCheckpoint && cursor.isBetweenLibxcRecords:
            return .recordBoundary
        case .libxlHeader, .libxlRecord, .libxcRecord, .pageList, .page:
            return nil
        }
    }
}
