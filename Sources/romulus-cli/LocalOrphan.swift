import Glibc
import RomulusCheck
import RomulusCore
import RomulusHost

/// An orphaned guest of this host, in Xen's hands and the kernel's.
final class LocalOrphan: OrphanHost {
    private let guest: LocalGuest
    private let xen: Toolstack
    private let xenstore = XenstoreConnection()
    private let lock: RunLock

    private init(_ guest: LocalGuest, _ xen: Toolstack, _ lock: RunLock) {
        self.guest = guest
        self.xen = xen
        self.lock = lock
    }

    /// The guest of that name, while nobody begins to protect it.
    static func held<Result>(_ name: String, _ body: (LocalOrphan) throws -> Result) throws -> Result {
        let xen: Toolstack
        do throws(ToolstackError) { xen = try Toolstack() } catch { throw failure("\(error)") }
        guard let guest = xen.guests().first(where: { $0.name == name }) else {
            throw failure("no xl remus of \(name) runs here, and no guest of that name is left")
        }
        let lock: RunLock?
        do throws(SystemError) { lock = try RunLock.take(RunLock.name(uuid: guest.uuid, .primary)) } catch {
            throw failure("\(error)")
        }
        guard let lock else {
            throw failure("an xl remus of \(name) runs here and does not answer: end it, or wait until it has begun")
        }
        defer { withExtendedLifetime(lock) {} }
        return try body(LocalOrphan(guest, xen, lock))
    }

    /// Nothing where there is no such guest, or it is protected.
    static func ifThere(_ name: String, _ body: (LocalOrphan) throws -> Void) throws {
        let xen: Toolstack
        do throws(ToolstackError) { xen = try Toolstack() } catch { throw failure("\(error)") }
        guard let guest = xen.guests().first(where: { $0.name == name }),
            let lock = try? RunLock.take(RunLock.name(uuid: guest.uuid, .primary))
        else { return }
        defer { withExtendedLifetime(lock) {} }
        try body(LocalOrphan(guest, xen, lock))
    }

    var state: LocalGuest.State? { xen.state(of: guest.id) }
    var isOutputHeld: Bool { leftovers?.areThere ?? false }
    func releaseOutput() { leftovers?.release(Log(guest: guest.name, events: .standard)) }
    func takeSuspendOrder() { xenstore.takeSuspendOrder(of: guest.id) }
    func resume() -> Bool { xen.resume(guest.id) }
    func unpause() -> Bool { xen.unpause(guest.id) }
    func pause() -> Bool { xen.pause(guest.id) }
    var hasReplica: Bool { lock.notedDomain == guest.id }
    func forgetReplica() { lock.note(replicaOf: nil) }
    var isSecured: Bool { lock.isNotedSecured }
    func noteSecured() { lock.noteSecured() }
    func say(_ text: String) { Log(guest: guest.name, events: .standard).error(text) }
    var id: UInt32 { guest.id }
    func wait(milliseconds: Int) { usleep(useconds_t(milliseconds * 1000)) }

    private var leftovers: Leftovers? {
        try? Leftovers(of: guest.id)
    }
}
