import Glibc
import RomulusCore

extension Configuration {
    /// What an admin runs before trusting this host's plugins and its arbiter: changes nothing, and turns nobody off.
    public func testPluginsAndArbiter() -> [CheckLine] {
        do throws(PluginError) {
            let log = Log(guest: "")
            let set = try PluginSet(plugins, PluginHost(.test), log: log)
            defer { set.close() }
            let loaded = set.plugins.map { CheckLine.ok("the plugin \($0.name) is loaded") }
            return loaded + testArbiter(set, log)
        } catch {
            return [.problem("\(error)")]
        }
    }

    private func testArbiter(_ plugins: PluginSet, _ log: Log) -> [CheckLine] {
        if arbiter == .fence { return FenceArbiter.test(self) }
        let made = try? makeArbiter(
            self, guestUUID: "test", hostName: "test", run: 0, peer: .nobody, plugins: plugins, log: log)
        if made == nil, arbiter != .none { return [.problem(Self.noPluginIsAnArbiter)] }
        return made?.test() ?? []
    }

    /// Whether a run with that peer would be begun; and what is to be said of it.
    public func testFence(of peer: RunPeer) -> (order: FenceOrder?, lines: [CheckLine]) {
        guard arbiter == .fence else { return (nil, []) }
        do throws(ArbiterError) {
            let target = try fenceTarget(of: peer)
            let whose = fencePeers.isEmpty ? "fence_options" : "fence_options.\(target.peer)"
            let told = CheckLine.ok(
                "\(whose) is for \(peer), and this host goes \(target.order.rawValue)"
                    + (target.order == .first ? "" : ", \(fenceDelay) ms later"))
            return (target.order, [told] + objections(to: target, whose))
        } catch {
            return (nil, [.problem("\(error)")])
        }
    }

    private func objections(to target: FenceTarget, _ whose: String) -> [CheckLine] {
        var lines: [CheckLine] = []
        if target.order == .second, fenceDelay <= detectTimeoutMilliseconds {
            lines.append(
                .problem(
                    "this host goes second, and fence_delay_ms = \(fenceDelay) leaves the first one no time: both may be turned off;"
                        + " remove it, or make it longer than the agent takes"))
        }
        if target.options.contains(where: { $0.hasPrefix("delay=") }) {
            lines.append(
                .problem(
                    "\(whose) has a delay of the agent's own: remove it, for which host goes first is fence_order's to say"
                ))
        }
        return lines
    }

    /// What is wrong with the file that it was read from: a secret in it that everybody may read.
    public func testFile(_ path: String) -> [CheckLine] {
        var about = stat()
        guard stat(path, &about) == 0, about.st_mode & 0o007 != 0, holdsSecret else { return [] }
        return [.problem("\(path) holds a password, and everybody may read it: chmod 640 \(path)")]
    }

    private var holdsSecret: Bool {
        (fenceOptions + fencePeers.flatMap(\.options) + leaseOptions).contains { option in
            let name = option.prefix { $0 != "=" }
            return ["password", "passwd", "--password", "--user"].contains(String(name))
        }
    }

    public static let noPluginIsAnArbiter =
        "no plugin is an arbiter: name one with `plugin' in /etc/xen/romulus.conf, or choose another arbiter"
}
