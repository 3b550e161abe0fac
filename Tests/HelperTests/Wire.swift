import Foundation
import Synchronization

/// The link's way from primary to backup, on which a test can do what networks do.
final class Wire: Sendable {
    enum Fault: Equatable, Sendable {
        case none
        /// The connection ends after so many bytes.
        case cut(after: Int)
        /// One bit of the byte at this offset arrives wrong.
        case flip(at: Int)
        /// From this byte on nothing arrives, and nothing says why.
        case stall(after: Int)
    }

    /// The primary's end and the backup's.
    let entry: OpenFile
    let exit: OpenFile
    private let carried = Mutex(0)
    private let fault: Mutex<Fault>
    private let hasEnded = DispatchSemaphore(value: 0)

    init(_ fault: Fault = .none) throws {
        self.fault = Mutex(fault)
        let (entry, inner) = try OpenFile.pair()
        let (outer, exit) = try OpenFile.pair()
        self.entry = entry
        self.exit = exit
        Thread.detachNewThread { [self] in
            carry(from: inner, to: outer)
            hasEnded.signal()
        }
    }

    var carriedBytes: Int { carried.withLock { $0 } }

    /// From now on.
    func stall() { fault.withLock { $0 = .stall(after: 0) } }

    private func carry(from: OpenFile, to: OpenFile) {
        var chunk = [UInt8](repeating: 0, count: 16 << 10)
        while true {
            let count = read(from.descriptor, &chunk, chunk.count)
            guard count > 0 else { return }
            let start = carriedBytes
            var length = count
            switch fault.withLock({ $0 }) {
            case .none: break
            case .cut(let limit) where start + count >= limit:
                length = max(0, limit - start)
                _ = write(to.descriptor, chunk, length)
                return
            case .flip(let offset) where start..<start + count ~= offset:
                chunk[offset - start] ^= 0x10
            case .stall(let limit) where start + count >= limit:
                length = 0
            case .cut, .flip, .stall: break
            }
            var done = 0
            while done < length {
                let written = chunk.withUnsafeBytes { write(to.descriptor, $0.baseAddress! + done, length - done) }
                guard written > 0 else { return }
                done += written
            }
            carried.withLock { $0 += count }
        }
    }
}
