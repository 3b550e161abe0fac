import RomulusCore

/// The primary's end of the back channel: bytes in, messages out.
struct BackChannel {
    struct Received {
        var messages: [Message] = []
        /// Something arrived, whatever it was.
        var isAlive = false
        /// Why nothing more will be read.
        var failure: String?
    }

    let descriptor: Int32
    private(set) var isOpen: Bool
    private var bytes: [UInt8] = []
    private var decoder = FrameDecoder()

    /// - Parameter descriptor: -1 where there is none.
    init(descriptor: Int32) {
        self.descriptor = descriptor
        isOpen = descriptor >= 0
    }

    /// Reads what is there. Does not block.
    mutating func receive() -> Received {
        var received = Received()
        var chunk = [UInt8](repeating: 0, count: 4096)
        switch chunk.withUnsafeMutableBytes({ DescriptorIO.read(descriptor, into: $0) }) {
        case .wouldBlock:
            break
        case .endOfFile:
            received.failure = "the link to the backup was closed"
        case .failed(let error):
            received.failure = "the back channel broke (\(error))"
        case .bytes(let count):
            received.isAlive = true
            bytes.append(contentsOf: chunk.prefix(count))
            decode(into: &received)
        }
        if received.failure != nil { isOpen = false }
        return received
    }

    private mutating func decode(into received: inout Received) {
        var offset = 0
        while let next = nextMessage(at: offset) {
            switch next {
            case .success(let (message, totalBytes)):
                offset += totalBytes
                received.messages.append(message)
            case .failure(let error):
                received.failure = "the backup sent \(error)"
                offset = bytes.count
            }
        }
        bytes.removeFirst(offset)
    }

    private mutating func nextMessage(at offset: Int) -> Result<(Message, totalBytes: Int), FrameError>? {
        bytes.withUnsafeBytes { bytes in
            do throws(FrameError) {
                guard let next = try decoder.next(in: UnsafeRawBufferPointer(rebasing: bytes[offset...])) else {
                    return nil
                }
                guard case .message(let message) = next.frame else { throw .malformed(.data) }
                return .success((message, next.totalBytes))
            } catch {
                return .failure(error)
            }
        }
    }
}
