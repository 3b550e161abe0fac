/// Makes frames of one direction; counts their sequence.
public struct FrameEncoder {
    private var sequence: UInt32 = 0

    public init() {}

    /// The header of a DATA frame whose payload stands in up to two pieces (a ring's end and its beginning).
    public mutating func dataHeader(_ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer) -> [UInt8] {
        header(.data, payload: (first, second))
    }

    /// The header of an ENCODED_DATA frame.
    public mutating func encodedDataHeader(_ payload: UnsafeRawBufferPointer) -> [UInt8] {
        header(.encodedData, payload: (payload, UnsafeRawBufferPointer(start: nil, count: 0)))
    }

    /// A whole frame.
    public mutating func frame(_ message: Message) -> [UInt8] {
        let (type, payload) = Self.payload(of: message)
        return payload.withUnsafeBytes { bytes in
            header(type, payload: (bytes, UnsafeRawBufferPointer(start: nil, count: 0))) + payload
        }
    }

    private mutating func header(
        _ type: FrameFormat.FrameType, payload: (UnsafeRawBufferPointer, UnsafeRawBufferPointer)
    ) -> [UInt8] {
        let length = payload.0.count + payload.1.count
        precondition(length <= FrameFormat.maximumPayloadBytes)
        var header: [UInt8] = []
        header.reserveCapacity(FrameFormat.headerBytes)
        header.append(littleEndian: type.rawValue)
        header.append(littleEndian: UInt32(length))
        header.append(littleEndian: sequence)
        sequence &+= 1

        var crc = CRC32C()
        header.withUnsafeBytes { crc.update($0) }
        header.append(littleEndian: crc.value)
        crc.update(payload.0)
        crc.update(payload.1)
        header.append(littleEndian: crc.value)
        return header
    }

    private static func payload(of message: Message) -> (FrameFormat.FrameType, [UInt8]) {
        var payload: [UInt8] = []
        switch message {
        case .epochEnd(let epoch, let streamBytes):
            payload.append(littleEndian: epoch.rawValue)
            payload.append(littleEndian: streamBytes)
            return (.epochEnd, payload)
        case .heartbeat(let epoch):
            payload.append(littleEndian: epoch.rawValue)
            return (.heartbeat, payload)
        case .farewell(let reason, let text):
            payload.append(littleEndian: reason.rawValue)
            payload.append(contentsOf: text.utf8.prefix(Message.maximumTextBytes))
            return (.farewell, payload)
        case .answer(let version, let arbiter, let features, let detectTimeout, let pageSlots):
            payload.append(littleEndian: version.rawValue)
            payload.append(littleEndian: arbiter.rawValue)
            payload.append(littleEndian: features.rawValue)
            payload.append(littleEndian: detectTimeout)
            payload.append(littleEndian: pageSlots)
            return (.answer, payload)
        case .acknowledgement(let epoch, let frames):
            payload.append(littleEndian: epoch.rawValue)
            payload.append(littleEndian: frames)
            return (.acknowledgement, payload)
        case .heard(let frames):
            payload.append(littleEndian: frames)
            return (.heard, payload)
        }
    }
}
