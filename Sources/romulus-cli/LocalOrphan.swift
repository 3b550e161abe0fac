import Glibc
import RomulusCheck
import RomulusCore
import RomulusHost

/// An orphaned guest of this host, in Xen's hands and the kernel's.
final class LocalOrphan: OrphanHost {
    private let guest: LocalGuest
    private let xen: Toolstack
    private let xenstore = XenstoreConnection()

    private init(_ guest: LocalGuest, _ xen: Toolstack) {
        self.guest = guest
        self.xen = xen
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
        return try body(LocalOrphan(guest, xen))
    }

    var state: LocalGuest.State? { xen.state(of: guest.id) }
    var isOutputHeld: Bool { leftovers?.areThere ?? false }
    func releaseOutput() { leftovers?.release(Log(guest: guest.name, events: .standard)) }
    func takeSuspendOrder() { xenstore.takeSuspendOrder(of: guest.id) }
    func resume() -> Bool { xen.resume(guest.id) }
    func unpause() -> Bool { xen.unpause(guest.id) }
    func wait(milliseconds: Int) { usleep(useconds_t(milliseconds * 1000)) }

    private var leftovers: Leftovers? {
        try? Leftovers(of: guest.id)
    }
}
