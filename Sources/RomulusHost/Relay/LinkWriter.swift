import RomulusCore

/// Writes the outgoing link: frames and records of ours in their order, and the stock stream out of the staging ring.
struct LinkWriter {
    private enum Item {
        /// `header`, and behind it the encoder's last payload or nothing; `written` counts both.
        case own(header: [UInt8], payload: UnsafeRawBufferPointer, written: Int, then: Landmark?)
        /// `unit` of the ring, behind `header`; `written` counts both.
        case stream(header: [UInt8], unit: OutgoingStream.Unit, written: Int)
    }

    enum Landmark: Equatable {
        case stream(OutgoingStream.Landmark)
        case framesBegun
        case epochEndSent
    }

    enum Progress: Equatable {
        case nothingToWrite
        case blocked
        /// Something moved; `landmark` when an item ended that has one.
        case moved(landmark: Landmark?)
        case failed(String)
    }

    private static var nothing: UnsafeRawBufferPointer { .init(start: nil, count: 0) }

    private let link: Int32
    private var queue: [Item] = []
    private var current: Item?
    private var encoder = FrameEncoder()
    private(set) var isFramed = false
    /// Frames since `takeComposed`, each with the moment before it could begin to leave.
    private var composed: [(frame: PrimarySession.ComposedFrame, at: MonotonicTime)] = []
    /// The session's word: no further DATA is composed while the link has enough.
    var mayComposeData = true
    /// No further unit of the stream is begun; what has begun is finished.
    var isStreamClosed = false
    /// Where the backup understands it: everything of the stream goes through it once frames have begun.
    var pages: PageEncoding?
    /// What the stream has taken of the link since `takeStreamBytes`.
    private var streamBytes: UInt64 = 0
    /// The ring's bytes when it had nothing whole for the encoder.
    private var partialBytes = 0

    init(link: Int32) {
        self.link = link
    }

    /// Nothing is half written.
    var isIdle: Bool { current == nil && queue.isEmpty }

    func hasWork(_ ring: StagingRing) -> Bool {
        current != nil || !queue.isEmpty || (!isStreamClosed && mayComposeData && ring.storedBytes > partialBytes)
    }

    mutating func queue(_ message: Message, then landmark: Landmark? = nil) {
        let now = MonotonicTime.now
        let frame = encoder.frame(message)
        composed.append((.init(bytes: frame.count, kind: message.composedKind), now))
        queue.append(.own(header: frame, payload: Self.nothing, written: 0, then: landmark))
    }

    mutating func queue(record: [UInt8], then landmark: Landmark? = nil) {
        queue.append(.own(header: record, payload: Self.nothing, written: 0, then: landmark))
    }

    mutating func takeComposed() -> [(frame: PrimarySession.ComposedFrame, at: MonotonicTime)] {
        defer { composed.removeAll(keepingCapacity: true) }
        return composed
    }

    mutating func takeStreamBytes() -> UInt64 {
        defer { streamBytes = 0 }
        return streamBytes
    }

    /// From the next item on, the stream goes into DATA frames.
    mutating func beginFrames() { isFramed = true }

    /// Writes as much of one item as the link takes.
    mutating func write(_ ring: inout StagingRing, _ stream: inout OutgoingStream) -> Progress {
        if current == nil {
            do throws(StreamError) {
                current = try nextItem(&ring, &stream)
            } catch {
                return .failed("libxl wrote a stream that is not understood: \(error)")
            }
        }
        switch current {
        case nil:
            return .nothingToWrite
        case .own(let header, let payload, let written, let landmark):
            return writeOwn(header, payload, written, landmark)
        case .stream(let header, let unit, let written):
            return writeStream(header, unit, written, &ring)
        }
    }

    private mutating func nextItem(
        _ ring: inout StagingRing, _ stream: inout OutgoingStream
    ) throws(StreamError) -> Item? {
        if !queue.isEmpty { return queue.removeFirst() }
        guard !isStreamClosed, mayComposeData else { return nil }
        if isFramed, let pages { return try encodedItem(pages, &ring, &stream) }
        guard let unit = try stream.nextUnit(of: ring) else { return nil }
        guard isFramed else { return .stream(header: [], unit: unit, written: 0) }
        let now = MonotonicTime.now
        let (first, second) = ring.storedParts(limit: unit.payloadBytes)
        let header = encoder.dataHeader(first, second)
        composed.append((.init(bytes: header.count + unit.payloadBytes, kind: .data), now))
        return .stream(header: header, unit: unit, written: 0)
    }

    /// The ring lets go of what is encoded at once.
    private mutating func encodedItem(
        _ pages: PageEncoding, _ ring: inout StagingRing, _ stream: inout OutgoingStream
    ) throws(StreamError) -> Item? {
        guard let unit = try stream.nextUnit(of: ring, into: &pages.encoder) else {
            partialBytes = ring.storedBytes
            return nil
        }
        partialBytes = 0
        let now = MonotonicTime.now
        let payload = pages.encoder.finish()
        ring.didRead(unit.payloadBytes)
        let header = encoder.encodedDataHeader(payload)
        composed.append((.init(bytes: header.count + payload.count, kind: .data), now))
        streamBytes += UInt64(header.count + payload.count)
        return .own(header: header, payload: payload, written: 0, then: unit.landmark.map(Landmark.stream))
    }

    private mutating func writeOwn(
        _ header: [UInt8], _ payload: UnsafeRawBufferPointer, _ written: Int, _ landmark: Landmark?
    ) -> Progress {
        let headerGone = min(written, header.count)
        let transfer = header.withUnsafeBytes {
            DescriptorIO.write(
                link, UnsafeRawBufferPointer(rebasing: $0[headerGone...]),
                UnsafeRawBufferPointer(rebasing: payload[(written - headerGone)...]), Self.nothing)
        }
        guard case .bytes(let count) = transfer else { return progress(of: transfer) }
        if written + count == header.count + payload.count {
            current = nil
            return .moved(landmark: landmark)
        }
        current = .own(header: header, payload: payload, written: written + count, then: landmark)
        return .moved(landmark: nil)
    }

    private mutating func writeStream(
        _ header: [UInt8], _ unit: OutgoingStream.Unit, _ written: Int, _ ring: inout StagingRing
    ) -> Progress {
        // The ring keeps the unit's bytes until all of it is written: what is gone of it is counted here.
        let headerGone = min(written, header.count)
        let payloadGone = written - headerGone
        let (first, second) = ring.storedParts(from: payloadGone, limit: unit.payloadBytes - payloadGone)
        let transfer = header.withUnsafeBytes {
            DescriptorIO.write(link, UnsafeRawBufferPointer(rebasing: $0[headerGone...]), first, second)
        }
        guard case .bytes(let count) = transfer else { return progress(of: transfer) }
        if written + count == header.count + unit.payloadBytes {
            ring.didRead(unit.payloadBytes)
            streamBytes += UInt64(header.count + unit.payloadBytes)
            current = nil
            return .moved(landmark: unit.landmark.map(Landmark.stream))
        }
        current = .stream(header: header, unit: unit, written: written + count)
        return .moved(landmark: nil)
    }

    private func progress(of transfer: Transfer) -> Progress {
        switch transfer {
        case .wouldBlock: .blocked
        case .failed(let error): .failed("the link to the backup broke (\(error))")
        case .bytes, .endOfFile: .failed("the link to the backup broke")
        }
    }
}
