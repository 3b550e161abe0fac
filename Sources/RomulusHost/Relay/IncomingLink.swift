import RomulusCore

/// What arrives on the backup's link, until it is taken apart.
final class IncomingLink {
    private let descriptor: Int32
    private let memory: MappedMemory
    private var received = 0..<0
    private var decoder = FrameDecoder()
    /// It has neither ended nor lied.
    private(set) var isWhole = true

    init(_ descriptor: Int32) throws(SystemError) {
        self.descriptor = descriptor
        memory = try MappedMemory(byteCount: Self.receiveBytes)
    }

    private static let receiveBytes = 1 << 20

    var isFull: Bool { received.count == memory.bytes.count }
    var isEmpty: Bool { received.isEmpty }
    var frameCount: UInt64 { decoder.frameCount }

    /// What is there, valid until the next `read`.
    var bytes: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(memory.bytes)[received])
    }

    /// What has arrived goes behind what is there, which is less than there is room for.
    func read() -> Transfer {
        let room = memory.bytes
        if received.upperBound == room.count {
            // Frames fit into the buffer several times over, so there is always room in front.
            room.copyMemory(from: bytes)
            received = 0..<received.count
        }
        let transfer = DescriptorIO.read(
            descriptor, into: UnsafeMutableRawBufferPointer(rebasing: room[received.upperBound...]))
        switch transfer {
        case .bytes(let count): received = received.lowerBound..<received.upperBound + count
        case .wouldBlock: break
        case .endOfFile, .failed: isWhole = false
        }
        return transfer
    }

    /// The next frame, if it is whole; it stays there until it is passed.
    func nextFrame() throws(FrameError) -> (frame: FrameDecoder.Frame, totalBytes: Int)? { try decoder.next(in: bytes) }

    func pass(_ count: Int) { received = received.lowerBound + count..<received.upperBound }

    /// Beginning anew leaves the most room.
    func beginAnewIfEmpty() { if received.isEmpty { received = 0..<0 } }

    func hasLied() { isWhole = false }
}
