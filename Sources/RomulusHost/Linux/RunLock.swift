import CLinux
import Glibc
import RomulusCore

/// One run at a time per guest and side: a lock on a file under /run/romulus that the kernel lets go of with the process. Its
/// name, and that of the run's socket, is the guest's UUID and the side: the guest's own name may be changed meanwhile, and
/// may be too long for a socket's.
public final class RunLock {
    public static let directory = "/run/romulus"
    private let file: Descriptor

    private init(file: consuming Descriptor) { self.file = file }

    public static func name(uuid: String, _ side: Side) -> String { "\(uuid).\(side)" }

    /// - Parameter directory: where the file is.
    /// - Returns: nil while another process holds the lock.
    public static func take(_ name: String, directory: String = RunLock.directory) throws(SystemError) -> RunLock? {
        if mkdir(directory, 0o700) != 0, errno != EEXIST { throw SystemError("mkdir \(directory)") }
        let raw = open("\(directory)/\(fileName(name)).lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard raw >= 0 else { throw SystemError("open \(directory)/\(name).lock") }
        let file = Descriptor(owning: raw)
        if flock(raw, LOCK_EX | LOCK_NB) != 0 {
            if errno == EWOULDBLOCK { return nil }
            throw SystemError("flock")
        }
        return RunLock(file: file)
    }

    /// For whoever finds the lock free after its holder was killed: the domain here whose replica may take over. On /run, which is
    /// memory; what was there before the host's start is no more.
    public func note(replicaOf domainID: UInt32?) {
        guard let domainID else {
            ftruncate(file.raw, 0)
            return
        }
        let text = Array("\(domainID)\n".utf8)
        if pwrite(file.raw, text, text.count, 0) == text.count { ftruncate(file.raw, text.count) }
    }

    /// The copy of the run that was killed has been paused. Whoever lets it run after that has decided.
    public func noteSecured() {
        guard let domainID = notedDomain else { return }
        let text = Array("\(domainID) secured\n".utf8)
        _ = pwrite(file.raw, text, text.count, 0)
    }

    public var isNotedSecured: Bool { noted.filter(\.isLetter) == "secured" }

    private var noted: String {
        var text = [UInt8](repeating: 0, count: 32)
        let count = pread(file.raw, &text, text.count, 0)
        return String(decoding: text.prefix(max(count, 0)), as: UTF8.self)
    }

    /// Nil where a run has ended by itself, or had no replica yet.
    public var notedDomain: UInt32? { UInt32(noted.filter(\.isNumber)) }

    /// Whether some process holds it. One that is about to take it may find it taken, for that moment.
    public static func isHeld(_ name: String) -> Bool {
        let raw = open("\(directory)/\(fileName(name)).lock", O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard raw >= 0 else { return false }
        let file = Descriptor(owning: raw)
        return flock(file.raw, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK
    }

    /// A guest's name as part of a file's.
    static func fileName(_ name: String) -> String { String(name.map { $0 == "/" ? "_" : $0 }) }
}
