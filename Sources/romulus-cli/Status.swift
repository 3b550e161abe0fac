import ArgumentParser
import RomulusHost

struct Status: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "The sessions on this host, and how they fare.",
        discussion: """
            Times are milliseconds, of the newest epoch: PERIOD from the beginning of the one before, PAUSE and its parts, ACK \
            from the guest's resuming to the backup's acknowledgement. KIB and RATIO are what went over the link. STATE is \
            one of: first copy, protected, unacknowledged (a stock backup), frozen (romulus resume or yield decides), \
            deciding, ending.

            Exit status: 0 with sessions to show, 1 without.
            """)

    @Argument(help: "Of this guest only.", completion: .shellCommand("romulus status --names")) var guest: String?
    @Flag(help: "An array of JSON objects.") var json = false
    @Flag(help: .private) var names = false

    func run() throws {
        let statuses = try Sessions.statuses(of: guest)
        if names {
            for name in Set(statuses.compactMap { $0["guest"]?.text }).sorted() { print(name) }
            return
        }
        if json { print(JSON.array(statuses).encoded(isIndented: true), terminator: "") }
        guard !statuses.isEmpty else {
            throw failure(
                guest.map { "nothing protects \($0) here; xl remus \($0) HOST does" } ?? "no session on this host")
        }
        guard !json else { return }
        for line in StatusTable(statuses).lines + StatusTable.newestEvents(statuses) { print(line) }
    }
}
