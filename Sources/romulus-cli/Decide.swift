import ArgumentParser
import RomulusHost

struct Resume: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "The copy on this host is the one that goes on.",
        discussion: """
            On the primary, a frozen guest runs again and its held output is let out, also one whose xl remus was killed; on \
            the backup, a replica whose primary is in doubt is activated. Say it on one host only, and only when the other copy does not run and will \
            not.
            """)

    @Argument(help: "The guest's name.") var guest: String

    func run() throws {
        if try decide(.resume, guest) { return }
        let done = try LocalOrphan.held(guest) { try OrphanedGuest(host: $0).resume() }
        print("the guest runs on here, unprotected: the xl remus that protected it is gone; \(done)")
    }
}

struct Yield: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "The copy on this host goes away; the other host's goes on.",
        discussion: """
            On the primary, the frozen guest and its held output are thrown away; on the backup, the replica is \
            discarded, also while all is well: then the guest goes on at the primary, unprotected.
            """)

    @Argument(help: "The guest's name.") var guest: String

    func run() throws {
        if try decide(.yield, guest) { return }
        throw failure("no xl remus of \(guest) runs here; a copy that is left is removed with xl destroy \(guest)")
    }
}

/// Asks the session of that guest on this host, whichever side it is.
///
/// - Returns: false where there is none.
private func decide(_ request: AdminSocket.Request, _ guest: String) throws -> Bool {
    do throws(SystemError) {
        guard let answer = try Sessions.ask(request, of: guest) else { return false }
        guard answer == "ok" else { throw SystemError(answer, code: 0) }
        return true
    } catch {
        throw failure(error.code == 0 ? error.call : "\(error)")
    }
}
