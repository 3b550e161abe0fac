/// What can be wrong with a frame. Each is a failure of the link: what came before stands, nothing after is read.
public enum FrameError: Error, Equatable, Sendable {
    case unknownType(UInt32)
    case tooLong(lengthBytes: Int)
    case outOfSequence(expected: UInt32, found: UInt32)
    case checksum
    case malformed(FrameFormat.FrameType)
}

extension FrameError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .unknownType(let type): "a frame of unknown type \(type)"
        case .tooLong(let length): "a frame that claims \(length) bytes"
        case .outOfSequence(let expected, let found): "frame \(found) where \(expected) was due"
        case .checksum: "a frame whose checksum is wrong"
        case .malformed(let type): "a malformed frame (\(type))"
        }
    }
}

/// Reads the frames of one direction.
public struct FrameDecoder {
    public enum Frame {
        /// A piece of the stock stream; borrowed from the bytes given to `next(in:)`.
        case data(UnsafeRawBufferPointer)
        /// The same for a piece that `PageDecoder` reads.
        case encodedData(UnsafeRawBufferPointer)
        case message(Message)
    }

    private var sequence: UInt32 { UInt32(truncatingIfNeeded: frameCount) }
    /// How many frames there have been.
    public private(set) var frameCount: UInt64 = 0

    public init() {}

    /// The frame at the beginning of `bytes`, or nil while it is not there whole.
    ///
    /// Lengths are checked before anything of the payload is waited for.
    public mutating func next(
        in bytes: UnsafeRawBufferPointer
    ) throws(FrameError) -> (frame: Frame, totalBytes: Int)? {
        guard bytes.count >= FrameFormat.headerBytes else { return nil }
        var crc = CRC32C()
        crc.update(bytes.part(from: 0, count: FrameFormat.checkedHeaderBytes))
        guard crc.value == bytes.littleEndian(at: FrameFormat.checkedHeaderBytes) else { throw .checksum }
        let rawType: UInt32 = bytes.littleEndian(at: 0)
        guard let type = FrameFormat.FrameType(rawValue: rawType) else { throw .unknownType(rawType) }
        let length = Int(bytes.littleEndian(at: 4, as: UInt32.self))
        guard length <= FrameFormat.maximumPayloadBytes else { throw .tooLong(lengthBytes: length) }
        let found: UInt32 = bytes.littleEndian(at: 8)
        guard found == sequence else { throw .outOfSequence(expected: sequence, found: found) }
        guard bytes.count >= FrameFormat.headerBytes + length else { return nil }

        let payload = bytes.part(from: FrameFormat.headerBytes, count: length)
        crc.update(payload)
        guard crc.value == bytes.littleEndian(at: FrameFormat.checkedHeaderBytes + 4) else { throw .checksum }
        frameCount += 1

        let frame: Frame =
            switch type {
            case .data: .data(payload)
            case .encodedData: .encodedData(payload)
            default: .message(try Self.message(type, payload))
            }
        return (frame, FrameFormat.headerBytes + length)
    }

    private static func message(
        _ type: FrameFormat.FrameType, _ payload: UnsafeRawBufferPointer
    ) throws(FrameError) -> Message {
        func check(_ holds: Bool) throws(FrameError) {
            guard holds else { throw .malformed(type) }
        }
        switch type {
        case .data, .encodedData:
            throw .malformed(type)
        case .epochEnd:
            try check(payload.count == 16)
            return .epochEnd(Epoch(rawValue: payload.littleEndian(at: 0)), streamBytes: payload.littleEndian(at: 8))
        case .heartbeat:
            try check(payload.count == 8)
            return .heartbeat(Epoch(rawValue: payload.littleEndian(at: 0)))
        case .farewell:
            try check(payload.count >= 4 && payload.count <= 4 + Message.maximumTextBytes)
            guard let reason = FarewellReason(rawValue: payload.littleEndian(at: 0)) else { throw .malformed(type) }
            return .farewell(reason, text: String(decoding: payload.part(from: 4), as: UTF8.self))
        case .answer:
            try check(payload.count == 16)
            guard let arbiter = ArbiterKind(rawValue: payload.littleEndian(at: 2)) else { throw .malformed(type) }
            return .answer(
                version: ProtocolVersion(rawValue: payload.littleEndian(at: 0)), arbiter: arbiter,
                features: Features(rawValue: payload.littleEndian(at: 4)),
                detectTimeoutMilliseconds: payload.littleEndian(at: 8), pageSlots: payload.littleEndian(at: 12))
        case .acknowledgement:
            try check(payload.count == 16)
            return .acknowledgement(
                Epoch(rawValue: payload.littleEndian(at: 0)), frames: payload.littleEndian(at: 8))
        case .heard:
            try check(payload.count == 8)
            return .heard(frames: payload.littleEndian(at: 0))
        }
    }
}
