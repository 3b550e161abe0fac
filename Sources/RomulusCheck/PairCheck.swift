import RomulusCore
import RomulusHost

/// What `romulus check` says of two hosts, before one of them protects a guest on the other.
public struct PairCheck {
    private let here: HostReport
    private let answer: RemoteHost.Answer
    private let peer: String
    private let guest: Guest
    private let sharedConnection: String?

    /// Of this host.
    public enum Guest: Equatable, Sendable {
        case notNamed
        case absent(String)
        case unknown(String)
        case present(GuestFacts)
    }

    static let hereName = "this host"

    /// - Parameters:
    ///   - peer: the other host, as the admin calls it.
    ///   - sharedConnection: where ssh would share its connection to the other host with others.
    public init(
        here: HostReport, peer: String, answer: RemoteHost.Answer, guest: Guest, sharedConnection: String? = nil
    ) {
        self.sharedConnection = sharedConnection
        self.here = here
        self.peer = peer
        self.answer = answer
        self.guest = guest
    }

    public func lines() -> [CheckLine] {
        var lines = host(Self.hereName, here)
        switch answer {
        case .report(let there, let link, let loginWords, _):
            lines +=
                host(peer, there) + self.link(link, there) + quiet(loginWords) + connection() + agreement(there)
                + balloon(there)
        case .withoutSSH:
            lines.append(.problem("\(Self.hereName): there is no ssh, by which xl remus goes: install openssh-client"))
        case .unreachable(let words):
            lines.append(
                .problem(
                    "\(peer) is not reached by ssh without a question (\(words)): make ssh \(peer) work for root with a key"
                        + " and a host key that is known"))
        case .withoutRomulus(let words):
            lines.append(
                .problem(
                    "\(peer) has no romulus check (\(words)): install Romulus \(here.version) there, in the PATH of ssh's"
                        + " commands"))
        case .notUnderstood(let words):
            lines.append(
                .problem(
                    "\(peer) did not answer as romulus check does (\(words)): run ssh \(peer) romulus check --report to see"
                        + " what it says"))
        }
        return lines + GuestCheck(peer: peer, here: here, there: there, looks: looks).lines(guest)
    }

    private var there: HostReport? {
        if case .report(let report, _, _, _) = answer { report } else { nil }
    }

    private var looks: [HostLook: Bool] {
        if case .report(_, _, _, let looks) = answer { looks } else { [:] }
    }

    // MARK: One host

    private func host(_ name: String, _ report: HostReport) -> [CheckLine] {
        var lines = [activation(name, report)]
        switch report.xen {
        case .known(let xen): lines.append(.ok("\(name): Xen \(xen.version)"))
        case .unknown(let reason): lines.append(.problem("\(name): \(reason)"))
        }
        lines +=
            report.moduleProblems.isEmpty
            ? [.ok("\(name): the kernel has every module that holds output")]
            : report.moduleProblems.map { .problem("\(name): \($0)") }
        switch report.settings {
        case .known(let settings):
            lines += settings.arbiterTest.map { CheckLine(text: "\(name): \($0.text)", isProblem: $0.isProblem) }
        case .unknown(let reason): lines.append(.problem("\(name): \(reason)"))
        }
        return lines
    }

    private func activation(_ name: String, _ report: HostReport) -> CheckLine {
        switch report.activation {
        case .active: .ok("\(name): Romulus \(report.version) is installed and active")
        case .inactive: .problem("\(name): Romulus \(report.version) is not active: run romulus-activate")
        case .broken:
            .problem(
                "\(name): Romulus is active, but libromulus.so.0 or the stock xl is missing: install Romulus again, then"
                    + " run romulus-activate")
        case .absent:
            .problem("\(name): there is no xl in PATH: install Xen's tools (on Debian xen-utils-common)")
        }
    }

    // MARK: The way between them

    private func link(_ samples: LinkSamples?, _ there: HostReport) -> [CheckLine] {
        guard let samples else {
            return [
                .problem("\(peer) answers by ssh, but no echo came back: try ssh \(peer) by hand, it may be overloaded")
            ]
        }
        return [.ok("\(peer) is reached by ssh without a password"), latency(samples, there), clocks(samples)]
    }

    /// The stream of `xl remus` begins behind whatever comes before it.
    private func quiet(_ loginWords: String?) -> [CheckLine] {
        guard let loginWords else { return [] }
        return [
            .problem(
                "a login on \(peer) prints `\(loginWords.prefix(80))', which xl remus would take for the other xl's answer:"
                    + " keep root's ~/.bashrc and the like there quiet where no terminal is")
        ]
    }

    private func connection() -> [CheckLine] {
        guard let sharedConnection else { return [] }
        return [
            .problem(
                "ssh shares its connection to \(peer) with others (ControlPath \(sharedConnection)), and who ends theirs ends"
                    + " protection: set ControlPath none for \(peer) in root's ~/.ssh/config")
        ]
    }

    /// A receiving xl has its lock for as long as the guest is protected, where it takes memory from dom0.
    private func balloon(_ there: HostReport) -> [CheckLine] {
        guard let xen = there.xen.value, xen.takesFromDom0 else { return [] }
        return [
            .problem(
                "\(peer): xl takes memory from dom0 for guests (autoballoon), and so lets nobody create another one while it"
                    + " receives: set autoballoon=\"off\" in /etc/xen/xl.conf, and dom0_mem= for Xen")
        ]
    }

    /// Signs of life go eight times within the backup's patience.
    private func latency(_ samples: LinkSamples, _ there: HostReport) -> CheckLine {
        let roundTrip = samples.medianRoundTripNanoseconds
        let text = "a round trip to \(peer) takes \(milliseconds(roundTrip)) ms"
        guard let patience = there.settings.value?.detectTimeoutMilliseconds,
            roundTrip > .nanoseconds(milliseconds: patience) / 8
        else { return .ok(text) }
        let enough = (roundTrip / 125_000).advanced(by: 1)
        return .problem(
            "\(text), and its detect_timeout_ms is only \(patience): use a faster link, or set it to \(enough) or more on"
                + " both hosts")
    }

    private static let longestClockDifference = Int64.nanoseconds(milliseconds: 1000)

    /// Nothing is decided by these clocks; who reads two logs later depends on them.
    private func clocks(_ samples: LinkSamples) -> CheckLine {
        let difference = samples.clockDifferenceNanoseconds
        guard abs(difference) > Self.longestClockDifference else {
            return .ok("the hosts' clocks agree within a second")
        }
        return .problem(
            "\(peer)'s clock is \(milliseconds(abs(difference))) ms \(difference > 0 ? "ahead" : "behind"), so the hosts' logs"
                + " cannot be read together: let NTP set both (on Debian apt-get install chrony)")
    }

    private func milliseconds(_ nanoseconds: Int64) -> String {
        let tenths = nanoseconds / 100_000
        return "\(tenths / 10).\(tenths % 10)"
    }

    // MARK: Both together

    private func agreement(_ there: HostReport) -> [CheckLine] {
        var lines: [CheckLine] = []
        if here.version != there.version {
            lines.append(
                .problem(
                    "Romulus is \(here.version) on this host and \(there.version) on \(peer): install the same version on"
                        + " both"))
        }
        if let mine = here.xen.value, let other = there.xen.value, release(mine) != release(other) {
            lines.append(
                .problem(
                    "Xen is \(mine.version) on this host and \(other.version) on \(peer): a guest goes on only under the"
                        + " same release; upgrade one of them"))
        }
        if let mine = here.settings.value?.arbiter, let other = there.settings.value?.arbiter {
            lines.append(arbiters(mine, other))
        }
        if let mine = here.settings.value?.fenceOrder, mine == there.settings.value?.fenceOrder {
            lines.append(
                .problem(
                    "both hosts go \(mine.rawValue) when they would turn each other off, and both would: set fence_order ="
                        + " \"first\" in /etc/xen/romulus.conf on one of them and \"second\" on the other"))
        }
        return lines
    }

    /// Its first two numbers.
    private func release(_ xen: HostReport.Xen) -> [Substring] {
        Array(xen.version.split(separator: ".", maxSplits: 2).prefix(2))
    }

    private func arbiters(_ mine: ArbiterKind, _ other: ArbiterKind) -> CheckLine {
        let name = Configuration.name(of: mine)
        guard mine == other else {
            return .problem(
                "arbiter is \"\(name)\" on this host and \"\(Configuration.name(of: other))\" on \(peer): set the same in"
                    + " /etc/xen/romulus.conf on both")
        }
        guard mine != .none else {
            return .ok(
                "no arbiter on either host: a backup takes over when its primary is silent; a primary whose backup is"
                    + " silent freezes the guest and waits for romulus resume or romulus yield")
        }
        return .ok("arbiter is \"\(name)\" on both hosts")
    }
}
