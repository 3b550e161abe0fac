import ArgumentParser
import Glibc
import RomulusHost

struct Events: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "What happened on this host and why, also to guests whose protection has ended.",
        discussion: """
            Every line that Romulus has said: starts, failovers, refusals, degradations, decisions. They are kept in \
            /var/log/xen/romulus-events.json, whose older half goes when it has grown to 1 MiB.
            """)

    @Argument(help: "Of this guest only.") var guest: String?
    @Option(name: [.customShort("n"), .long], help: "The newest so many.") var count = 50
    @Flag(name: .shortAndLong, help: "Then wait for more.") var follow = false
    @Flag(help: "One JSON object per line.") var json = false

    func validate() throws {
        guard count >= 0 else { throw ValidationError("--count must be 0 or more") }
    }

    func run() throws {
        guard var known = EventFile.standard.events() else {
            throw failure("no events yet, or not for you to read: /var/log/xen/romulus-events.json")
        }
        for event in chosen(known).suffix(count) { show(event) }
        while follow {
            usleep(500_000)
            guard let now = EventFile.standard.events() else { continue }
            // Where the older half has gone, what is new stands behind the newest that is known.
            let newer = known.last.flatMap { now.lastIndex(of: $0) }.map { now[($0 + 1)...] } ?? now[...]
            for event in chosen(newer) { show(event) }
            known = now
        }
    }

    private func chosen(_ events: some Collection<Event>) -> [Event] {
        events.filter { guest == nil || $0.guest == guest }
    }

    private func show(_ event: Event) {
        print(json ? event.json.encoded() : event.line)
        fflush(nil)
    }
}
