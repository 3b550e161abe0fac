import Glibc
import RomulusCore
import Testing

@testable import RomulusCheck
@testable import RomulusHost

@Suite struct RemoteHostTests {
    init() { signal(SIGPIPE, SIG_IGN) }

    /// What a script in ssh's place comes to.
    private func ask(_ script: String, timeout: Int = 10_000) -> RemoteHost.Answer {
        var host = RemoteHost(command: ["/bin/sh", "-c", script])
        host.timeoutMilliseconds = timeout
        host.echoTimeoutMilliseconds = 500
        return host.ask()
    }

    private let report = "cat <<'END'\n\(HostReport.good.text)END\n"

    @Test func theReportAndTheClockComeOverOneConnection() throws {
        let echoes = "while read -r line; do echo \"$line $(($(date +%s%N) + 5000000000))\"; done"
        guard case .report(let report, let link, nil, _) = ask(report + echoes) else {
            Issue.record("no report")
            return
        }
        #expect(report == .good)
        let samples = try #require(link)
        #expect(samples.medianRoundTripNanoseconds > 0)
        #expect((4000...5500).contains(samples.clockDifferenceNanoseconds.inMilliseconds))
    }

    @Test func itIsAskedWhatTheGuestNeeds() {
        let looks = [HostLook(.network, "xenbr0"), HostLook(.program, "/a b"), HostLook(.file, "/c")]
        func answers(_ rest: String) -> [HostLook: Bool]? {
            var host = RemoteHost(command: ["/bin/sh", "-c", report + rest])
            host.looks = looks
            host.echoTimeoutMilliseconds = 500
            guard case .report(_, _, nil, let answers) = host.ask() else { return nil }
            return answers
        }
        let service = """
            while read -r line; do
                case $line in
                    "look file"*) echo "$line: no" ;;
                    look*) echo "$line: yes" ;;
                    *) echo "$line 5" ;;
                esac
            done
            """
        #expect(answers(service) == [looks[0]: true, looks[1]: true, looks[2]: false])
        // An older Romulus goes away.
        #expect(answers("while read -r line; do case $line in look*) exit ;; *) echo \"$line 5\" ;; esac; done") == [:])
    }

    @Test func whatALoginComplainsOfIsNoise() {
        #expect(ask("echo 'Warning: a key was added' >&2\n" + report) == .report(.good, nil))
    }

    /// `xl remus` takes it for the other xl's banner.
    @Test func aLoginThatPrintsIsAProblem() {
        let answer = ask("echo Welcome; echo Have fun\n" + report)
        let lines = PairCheck(here: .good, peer: "hostb", answer: answer, guest: .notNamed).lines()
        let problems = lines.filter(\.isProblem).map(\.text)
        #expect(problems.contains { $0.hasPrefix("a login on hostb prints `Welcome'") }, "\(problems)")
        #expect(lines.contains { $0.text == "hostb: Xen 4.17.4-pre" }, "the report is used all the same")
    }

    @Test(arguments: [
        "cat >/dev/null", "read -r line; echo \"$line\"", "read -r line; echo echo 1 soon", "exit 0",
        "read -r line; echo echo 1 -9223372036854775808", "read -r line; echo echo 1 9223372036854775807",
    ])
    func withoutAnUsableEchoThereIsNoSample(rest: String) {
        #expect(ask(report + rest) == .report(.good, nil))
    }

    @Test func eachWayToFailIsToldFromTheOthers() {
        #expect(ask("echo 'ssh: no route' >&2; exit 255") == .unreachable("ssh: no route"))
        #expect(
            ask("echo 'bash: romulus: command not found' >&2; exit 127")
                == .withoutRomulus("bash: romulus: command not found"))
        #expect(ask("echo 'Error: Unexpected argument'; exit 64") == .withoutRomulus("Error: Unexpected argument"))
        #expect(ask("exit 3") == .notUnderstood("exit status 3: it said nothing"))
        #expect(ask("echo hello") == .notUnderstood("exit status 0: hello"))
        #expect(RemoteHost(command: ["/nonexistent/ssh"]).ask() == .withoutSSH)
        #expect(ask("echo romulus-report 1; echo version 1") == .notUnderstood("its report has no end"))
        #expect(
            ask("echo romulus-report 1; echo version 1; echo end")
                == .notUnderstood("its report lacks `activation'"))
    }

    @Test func whoeverSaysNothingOrTooMuchIsLeft() {
        let begun = MonotonicTime.now
        #expect(ask("sleep 60", timeout: 300) == .notUnderstood("no answer in 0 s"))
        for flood in [
            "yes", "yes | tr -d '\\n'", "echo romulus-report 1; yes version", "echo romulus-report 1; cat /dev/zero",
        ] {
            guard case .notUnderstood = ask(flood) else {
                Issue.record("taken for a report: \(flood)")
                return
            }
        }
        #expect((MonotonicTime.now - begun).inMilliseconds < 30_000)
    }

    @Test func nothingOfItMovesTheAdminsCursor() {
        #expect(ask("printf '\\033[2Jgone\\007\\n'; exit 255") == .unreachable("[2Jgone"))
    }
}
