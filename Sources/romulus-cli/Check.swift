import ArgumentParser
import Glibc
import RomulusCheck
import RomulusHost

struct Check: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Whether this host and another one are ready, before the first xl remus.",
        discussion: """
            Run it on the host where the guest runs; HOST is what xl remus will be given. It asks HOST by one ssh command, \
            changes nothing on either host, and prints a line for each thing that it has looked at: ok, or problem and what \
            to do. The exit status is 0 when there is no problem, 1 when there is one, 2 when nothing could be checked \
            because it was not run as root, and 64 when the command line is wrong.
            """)

    @Argument(help: "The backup, as xl remus will be told.") var host: String?

    @Option(help: "A guest of this host: also whether it can be protected, and whether its replica fits on HOST.")
    var guest: String?

    @Flag(help: .hidden) var report = false

    func validate() throws {
        guard report || host != nil else { throw ValidationError("Missing expected argument '<host>'") }
    }

    func run() throws {
        signal(SIGPIPE, SIG_IGN)
        if report { return ReportService.run() }
        guard getuid() == 0 else {
            print("romulus check: must be root, as xl remus will be")
            throw ExitCode(2)
        }
        let host = host ?? ""
        let guest = lookedAt()
        var looks: [HostLook] = []
        if case .present(let facts) = guest { looks = facts.looks }
        let answer = RemoteHost(ssh: host, looks: looks).ask()
        let here = HostSurvey.report(peer: answer.connection.map { RunPeer(name: host, connection: $0.reversed) })
        let check = PairCheck(
            here: here, peer: host, answer: answer, guest: guest, sharedConnection: SharedConnection.path(to: host))
        try show(check.lines())
    }

    private func lookedAt() -> PairCheck.Guest {
        guard let guest else { return .notNamed }
        return switch HostSurvey.guest(named: guest) {
        case nil: .absent(guest)
        case .unknown(let reason): .unknown(reason)
        case .known(let facts): .present(facts)
        }
    }
}

/// One line each; the exit status is 1 if one is a problem.
func show(_ lines: [CheckLine]) throws {
    for line in lines { print(line) }
    if lines.contains(where: \.isProblem) { throw ExitCode(1) }
}
