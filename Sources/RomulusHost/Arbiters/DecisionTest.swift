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
            let arbiter = makeArbiter(self, guestUUID: "test", hostName: "test", run: 0, plugins: set, log: log)
            if arbiter == nil, self.arbiter != .none { return loaded + [.problem(Self.noPluginIsAnArbiter)] }
            return loaded + (arbiter?.test() ?? [])
        } catch {
            return [.problem("\(error)")]
        }
    }

    /// What is wrong with the file that it was read from: a secret in it that everybody may read.
    public func testFile(_ path: String) -> [CheckLine] {
        var about = stat()
        guard stat(path, &about) == 0, about.st_mode & 0o007 != 0, holdsSecret else { return [] }
        return [.problem("\(path) holds a password, and everybody may read it: chmod 640 \(path)")]
    }

    private var holdsSecret: Bool {
        (fenceOptions + leaseOptions).contains { option in
            let name = option.prefix { $0 != "=" }
            return ["password", "passwd", "--password", "--user"].contains(String(name))
        }
    }

    public static let noPluginIsAnArbiter =
        "no plugin is an arbiter: name one with `plugin' in /etc/xen/romulus.conf, or choose another arbiter"
}
