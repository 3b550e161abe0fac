import Foundation
import Synchronization

/// One direction of the link, on which a test can do what networks do.
final class Wire: Sendable {
    enum Fault: Equatable, Sendable {
        case none
        /// The connection ends after so many bytes.
        case cut(after: Int)
        /// One bit of the byte at this offset arrives wrong.
        case flip(at: Int)
        /// From this byte on nothing arrives, and nothing says why.
        case stall(after: Int)
        /// From this byte on nothing is taken any more, so that the sender's side fills up.
        case jam(after: Int)

        fileprivate func moved(to offset: Int) -> Fault {
            switch self {
            case .none: .none
            case .cut: .cut(after: offset)
            case .flip: .flip(at: offset)
            case .stall: .stall(after: offset)
            case .jam: .jam(after: offset)
            }
        }
    }

    /// The sender's end and the receiver's.
    let entry: OpenFile
    let exit: OpenFile
    private let carried = Mutex(0)
    private let fault: Mutex<Fault>
    private let hasJammed = Mutex(false)
    private let opposite: Wire?
    /// How far this direction may be ahead of the other one's first byte.
    private static let leadBytes = 64 << 10

    /// - Parameters:
    ///   - place: where the fault strikes, instead of the offset in `fault`.
    ///   - opposite: the direction whose first byte is waited for, so that an answer is not late on a busy machine.
    init(_ fault: Fault = .none, at place: FrameScanner.Place? = nil, waitingFor opposite: Wire? = nil) throws {
        self.opposite = opposite
        self.fault = Mutex(place == nil ? fault : .none)
        let (entry, inner) = try OpenFile.pair()
        let (outer, exit) = try OpenFile.pair()
        self.entry = entry
        self.exit = exit
        Thread.detachNewThread { [self] in carry(from: inner, to: outer, fault, at: place) }
    }

    var carriedBytes: Int { carried.withLock { $0 } }
    var isJammed: Bool { hasJammed.withLock { $0 } }

    /// From now on.
    func stall() { fault.withLock { $0 = .stall(after: 0) } }

    /// What comes from now on is kept, and goes on when the link is back, as TCP has it.
    func hold() { isHeld.withLock { $0 = true } }
    func heal() { isHeld.withLock { $0 = false } }
    private let isHeld = Mutex(false)

    private func carry(from: OpenFile, to: OpenFile, _ placed: Fault, at place: FrameScanner.Place?) {
        var scanner = place.map { FrameScanner($0.frame) }
        var chunk = [UInt8](repeating: 0, count: 16 << 10)
        while true {
            let count = read(from.descriptor, &chunk, chunk.count)
            guard count > 0 else { return }
            while isHeld.withLock({ $0 }) { usleep(1000) }
            scanner?.scan(chunk.prefix(count))
            if let place, let start = scanner?.start {
                scanner = nil
                fault.withLock { $0 = placed.moved(to: start + place.offset) }
            }
            guard carry(&chunk, count, from: from, to: to) else { return }
        }
    }

    /// - Returns: false when the wire is at its end.
    private func carry(_ chunk: inout [UInt8], _ count: Int, from: OpenFile, to: OpenFile) -> Bool {
        let start = carriedBytes
        switch fault.withLock({ $0 }) {
        case .cut(let limit) where start + count >= limit:
            _ = pass(chunk, max(0, limit - start), to)
            return false
        case .flip(let offset) where start..<start + count ~= offset:
            chunk[offset - start] ^= 0x10
        case .stall(let limit) where start + count >= limit:
            carried.withLock { $0 += count }
            return pass(chunk, max(0, limit - start), to)
        case .jam(let limit) where start + count >= limit:
            _ = pass(chunk, max(0, limit - start), to)
            hasJammed.withLock { $0 = true }
            waitForHangUp(of: from)
            return false
        case .none, .cut, .flip, .stall, .jam: break
        }
        guard pass(chunk, count, to) else { return false }
        carried.withLock { $0 += count }
        if start < Self.leadBytes, start + count >= Self.leadBytes { waitForOpposite() }
        return true
    }

    private func pass(_ chunk: [UInt8], _ count: Int, _ to: OpenFile) -> Bool {
        var done = 0
        while done < count {
            let written = chunk.withUnsafeBytes { write(to.descriptor, $0.baseAddress! + done, count - done) }
            guard written > 0 else { return false }
            done += written
        }
        return true
    }

    private func waitForOpposite() {
        let deadline = ContinuousClock.now + .seconds(20)
        while let opposite, opposite.carriedBytes == 0, ContinuousClock.now < deadline { usleep(200) }
    }

    private func waitForHangUp(of from: OpenFile) {
        var request = pollfd(fd: from.descriptor, events: 0, revents: 0)
        while poll(&request, 1, -1) < 0, errno == EINTR {}
    }
}
