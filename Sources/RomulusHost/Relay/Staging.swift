import Glibc
import RomulusCore

/// The far end of the pipe that libxl and its helper write to, and the memory in which their bytes wait for the link.
final class Staging {
    /// Whoever writes the link takes from it.
    var ring: StagingRing
    private let memory: MappedMemory
    /// -1 when it is closed.
    private var stream: Int32

    /// - Parameter stream: becomes this one's to close.
    init(of stream: consuming Descriptor, _ settings: HelperSettings) throws(SystemError) {
        memory = try MappedMemory(byteCount: settings.stagingBytes)
        // The native engine has staging of its own for what a suspended guest waits for; the stock one has this.
        let firstCopy = settings.engine == .native ? Self.firstCopyBytes : memory.bytes.count
        ring = StagingRing(storage: UnsafeMutableRawBufferPointer(rebasing: memory.bytes.prefix(firstCopy)))
        self.stream = stream.release()
    }

    /// What the first copy gets of the memory: the guest does not wait for it, and it would touch whatever there is.
    private static let firstCopyBytes = 4 << 20
    /// How much is drained before the link is looked at again: some milliseconds of copying.
    private static let drainBytes = 16 << 20

    var byteCount: Int { memory.bytes.count }
    /// What to read; -1 without room for it.
    var descriptor: Int32 { ring.freeBytes > 0 ? stream : -1 }

    func becomeNonBlocking() { _ = DescriptorIO.setNonBlocking(stream) }

    /// At memory speed, until the pipe is empty or the ring is full.
    func drain() -> (bytes: Int, isFull: Bool) {
        var drained = 0
        while ring.freeBytes > 0 {
            switch DescriptorIO.read(stream, into: ring.freeParts) {
            case .bytes(let count):
                ring.didWrite(count)
                drained += count
                if drained >= Self.drainBytes { return (drained, false) }
            case .wouldBlock:
                return (drained, false)
            case .endOfFile, .failed:
                close()
                return (drained, false)
            }
        }
        return (drained, true)
    }

    /// The first copy is over.
    func takeAllMemory() {
        if ring.capacityBytes < memory.bytes.count, ring.storedBytes == 0 { ring = StagingRing(storage: memory.bytes) }
    }

    /// Whoever still writes gets EPIPE, and with it the stock code's own way out.
    func close() {
        guard stream >= 0 else { return }
        Glibc.close(stream)
        stream = -1
    }
}
