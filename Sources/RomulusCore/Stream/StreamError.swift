/// What can be wrong with a migration stream. None of it is ever handed on to libxl.
public enum StreamError: Error, Equatable, Sendable {
    case badHeader(Layer)
    case unsupportedVersion(Layer, UInt32)
    case recordTooLong(Layer, type: UInt32, lengthBytes: Int)
    case unexpectedRecord(Layer, type: UInt32)
    case malformedPageData
    case malformedPrivateRecord
    case epochTooLong(limitBytes: Int)
    case bytesAfterEnd

    /// Which of the two nested streams an error was found in.
    public enum Layer: String, Sendable {
        case libxl, libxc
    }
}

extension StreamError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .badHeader(let layer): "the \(layer.rawValue) stream's header is not one"
        case .unsupportedVersion(let layer, let version): "\(layer.rawValue) stream version \(version) is not supported"
        case .recordTooLong(let layer, let type, let length):
            "\(layer.rawValue) record of type \(hex(type)) claims \(length) bytes"
        case .unexpectedRecord(let layer, let type): "\(layer.rawValue) record of type \(hex(type)) is out of place"
        case .malformedPageData: "a PAGE_DATA record contradicts itself"
        case .malformedPrivateRecord: "a private record is damaged"
        case .epochTooLong(let limit): "an epoch is longer than the limit of \(limit) bytes"
        case .bytesAfterEnd: "bytes follow the stream's end"
        }
    }

    private func hex(_ value: UInt32) -> String { "0x" + String(value, radix: 16) }
}
