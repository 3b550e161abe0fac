import Glibc
import RomulusCore

/// One decision per pair of hosts, however many guests of this host ask for it: whoever holds the peer's file asks the agent,
/// and the others use what came of it.
struct FenceTurn: Sendable {
    private let lock: String
    private let record: String

    init(peer: String, directory: String = RunLock.directory) {
        lock = "\(directory)/fence-\(RunLock.fileName(peer)).lock"
        record = "\(directory)/fence-\(RunLock.fileName(peer)).off"
    }

    /// The agent's answer, noted by whoever got it.
    func wasOff(since moment: MonotonicTime) -> Bool {
        guard let text = try? FileContents.read(record, limitBytes: 64),
            let noted = Int64(String(decoding: text, as: UTF8.self))
        else { return false }
        return MonotonicTime(nanoseconds: noted) >= moment
    }

    func noteOff() {
        FileContents.replace(with: Array("\(MonotonicTime.now.nanoseconds)".utf8), at: record, mode: 0o600)
    }

    /// For as long as this lives no other process of this host asks.
    final class Held {
        private let file: Descriptor?
        fileprivate init(file: consuming Descriptor?) { self.file = file }
    }

    /// Two runs of a pair may go over two networks, whose addresses order the hosts differently.
    func keep(_ order: FenceOrder) throws(ArbiterError) {
        let path = record + ".order"
        guard let text = try? FileContents.read(path, limitBytes: 16) else {
            FileContents.replace(with: Array(order.rawValue.utf8), at: path, mode: 0o600)
            return
        }
        guard String(decoding: text, as: UTF8.self) == order.rawValue else {
            throw ArbiterError(
                "by the addresses of this connection this host would go \(order.rawValue), and by those of an earlier one it does"
                    + " not: set fence_order = \"first\" in /etc/xen/romulus.conf on one of the two hosts and \"second\" on the"
                    + " other")
        }
    }

    /// Better two calls than none: whoever has the turn stands still.
    func insist() -> Held { Held(file: nil) }

    /// Nil while another process asks.
    func take() -> Held? {
        let raw = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        // Better two calls than none.
        guard raw >= 0 else { return Held(file: nil) }
        let file = Descriptor(owning: raw)
        if flock(raw, LOCK_EX | LOCK_NB) != 0, errno == EWOULDBLOCK { return nil }
        return Held(file: file)
    }
}
