import Glibc
import RomulusCore

/// Grants when a fence agent has confirmed that the other host is off.
///
/// The convention is the fence-agents project's (doc/FenceAgentAPI.md there): `name=value` lines on standard input, among
/// them `action`; exit status 0 for done, and for `status` 0 is on and 2 is off.
struct FenceArbiter: Arbiter {
    /// With its path, or a name that is looked for in PATH and /usr/sbin.
    let agent: String
    let options: [String]
    let timeoutMilliseconds: Int
    let delayMilliseconds: Int

    private enum Action: String {
        case off
        case status
        case metadata
    }

    private var program: String? {
        let candidates =
            agent.contains("/") ? [agent] : ["/usr/sbin/\(agent)", "/sbin/\(agent)", "/usr/local/sbin/\(agent)"]
        return candidates.first { access($0, X_OK) == 0 }
    }

    private func run(_ action: Action, isCancelled: () -> Bool = { false }) -> Subprocess.Outcome {
        // Options may be secrets: they go by standard input, which nobody can list.
        let input = (options + ["action=\(action.rawValue)"]).joined(separator: "\n") + "\n"
        return Subprocess.run(
            [program ?? agent], input: input, timeoutMilliseconds: timeoutMilliseconds, isCancelled: isCancelled)
    }

    func prepare(_ side: Side) throws(ArbiterError) {
        guard program != nil else {
            throw ArbiterError("there is no fence agent \(agent): install fence-agents, or correct fence_agent")
        }
    }

    func decide(_ side: Side, note: (String) -> Void, isCancelled: () -> Bool) -> ArbiterVerdict? {
        var reasons = Reasons()
        // Against both hosts turning each other off: one of them waits.
        if side == .backup { pause(milliseconds: delayMilliseconds, isCancelled) }
        while !isCancelled() {
            let off = run(.off, isCancelled: isCancelled)
            let status = run(.status, isCancelled: isCancelled)
            if status.status == 2 { return .granted("\(agent) has turned the other host off") }
            let reason = off.status == 0 ? "it says that the other host is still on" : off.complaint
            if isCancelled() { break }
            reasons.tell("\(agent) has not turned the other host off (\(reason)); trying again", note)
            pause(milliseconds: 1000, isCancelled)
        }
        return nil
    }

    func end(for side: Side) {}

    func test() -> [CheckLine] {
        guard let program else {
            return [.problem("there is no fence agent \(agent): install fence-agents, or correct fence_agent")]
        }
        let metadata = run(.metadata)
        let status = run(.status)
        let told: CheckLine =
            switch status.status {
            case 0: .ok("\(agent) reaches the other host's switch, and says that it is on")
            case 2: .problem("\(agent) says that the other host is off: if it is not, the options name another one")
            default:
                .problem(
                    "\(agent) cannot tell whether the other host is on (\(status.complaint)): correct fence_options")
            }
        let described: CheckLine =
            metadata.status == 0
            ? .ok("\(program) is a fence agent") : .problem("\(program) gives no metadata (\(metadata.complaint))")
        return [described, told]
    }
}

/// Waits that long, or until there is no point any more.
func pause(milliseconds: Int, _ isCancelled: () -> Bool) {
    let end = MonotonicTime.now + .nanoseconds(milliseconds: milliseconds)
    while MonotonicTime.now < end, !isCancelled() { usleep(20_000) }
}
