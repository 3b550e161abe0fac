import Glibc

/// A program that turns a host off, or tells whether it is on.
///
/// The convention is the fence-agents project's (doc/FenceAgentAPI.md there): `name=value` lines on standard input, among
/// them `action`; exit status 0 for done, and for `status` 0 is on and 2 is off.
struct FenceAgent: Sendable, CustomStringConvertible {
    /// With its path, or a name that is looked for in PATH and /usr/sbin.
    let name: String
    let options: [String]
    let timeoutMilliseconds: Int

    enum Action: String {
        case off
        case status
        case metadata
    }

    static let isOn: Int32 = 0, isOff: Int32 = 2

    var description: String { name }

    var program: String? {
        let candidates =
            name.contains("/") ? [name] : ["/usr/sbin/\(name)", "/sbin/\(name)", "/usr/local/sbin/\(name)"]
        return candidates.first { access($0, X_OK) == 0 }
    }

    var isMissing: String { "there is no fence agent \(name): install fence-agents, or correct fence_agent" }

    func run(_ action: Action, isCancelled: () -> Bool = { false }) -> Subprocess.Outcome {
        // Options may be secrets: they go by standard input, which nobody can list.
        let input = (options + ["action=\(action.rawValue)"]).joined(separator: "\n") + "\n"
        return Subprocess.run(
            [program ?? name], input: input, timeoutMilliseconds: timeoutMilliseconds, isCancelled: isCancelled)
    }

    /// - Parameter host: what its switch is called.
    func test(host: String = "the other host") -> [CheckLine] {
        guard let program else { return [.problem(isMissing)] }
        let metadata = run(.metadata)
        let status = run(.status)
        let told: CheckLine =
            switch status.status {
            case Self.isOn: .ok("\(name) reaches the switch of \(host), and says that it is on")
            case Self.isOff: .problem("\(name) says that \(host) is off: if it is not, the options name another one")
            default:
                .problem("\(name) cannot tell whether \(host) is on (\(status.complaint)): correct fence_options")
            }
        let described: CheckLine =
            metadata.status == 0
            ? .ok("\(program) is a fence agent") : .problem("\(program) gives no metadata (\(metadata.complaint))")
        return [described, told]
    }
}
