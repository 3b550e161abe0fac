import Glibc
import RomulusCore
import RomulusHost

/// Looks at the host where it runs.
public enum HostSurvey {
    static let modules = ["ifb", "sch_plug", "cls_matchall", "act_mirred", "act_gact", "sch_ingress"]

    /// - Parameter peer: the other host, where one is known.
    public static func report(settingsPath: String = Configuration.defaultPath, peer: RunPeer? = nil) -> HostReport {
        HostReport(
            version: Version.romulus, activation: activation(path: environment("PATH")), xen: xen(),
            moduleProblems: moduleProblems(), settings: settings(settingsPath, peer: peer),
            dom0AvailableKiB: availableMemory(), sessionsKiB: sessions(), connection: peer?.connection)
    }

    /// A guest of this host; nil where there is none of that name.
    public static func guest(named name: String) -> HostReport.Answer<GuestFacts>? {
        do throws(ToolstackError) {
            return try Toolstack().guest(named: name).map { .known($0) }
        } catch {
            return .unknown("\(error)")
        }
    }

    private static func xen() -> HostReport.Answer<HostReport.Xen> {
        do throws(ToolstackError) { return .known(try Toolstack().xen()) } catch { return .unknown("\(error)") }
    }

    // MARK: Romulus

    /// By the first `xl` in that PATH: on the backup it is ssh's, where `xl remus` starts the other side.
    static func activation(path: String) -> HostReport.Activation {
        for folder in path.split(separator: ":") {
            let xl = "\(folder)/xl"
            guard access(xl, X_OK) == 0 else { continue }
            guard let target = link(at: xl), let here = parent(of: target), target.hasSuffix("/romulus/xl") else {
                return .inactive
            }
            let isWhole = access("\(here)/libromulus.so.0", R_OK) == 0 && access("\(here)/stock/xl", X_OK) == 0
            return isWhole ? .active : .broken
        }
        return .absent
    }

    private static func link(at path: String) -> String? {
        var target = [CChar](repeating: 0, count: Int(PATH_MAX))
        let count = readlink(path, &target, target.count)
        return count > 0 ? String(decoding: target.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self) : nil
    }

    private static func parent(of path: String) -> String? {
        path.lastIndex(of: "/").map { String(path[..<$0]) }
    }

    private static func environment(_ name: String) -> String { getenv(name).map { String(cString: $0) } ?? "" }

    // MARK: The kernel

    /// What modinfo finds is what the kernel will load when the first device is made.
    static func moduleProblems(modinfo: String = "modinfo") -> [String] {
        var missing: [String] = []
        for module in modules {
            let outcome = Subprocess.run([modinfo, "-F", "name", module], timeoutMilliseconds: 10_000)
            if outcome.status == 127 {
                return ["\(modinfo) is missing, so kernel modules cannot be looked for: install kmod"]
            }
            if outcome.status != 0 { missing.append(module) }
        }
        guard !missing.isEmpty else { return [] }
        return [
            "kernel \(kernelRelease()) has no module \(missing.joined(separator: ", ")): install the kernel's full package"
                + " of modules, then depmod -a"
        ]
    }

    private static func kernelRelease() -> String {
        var name = utsname()
        guard uname(&name) == 0 else { return "" }
        return withUnsafeBytes(of: name.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }

    private static func availableMemory() -> UInt64? {
        guard let text = try? FileContents.read("/proc/meminfo", limitBytes: 64 << 10) else { return nil }
        let lines = String(decoding: text, as: UTF8.self).split(separator: "\n")
        let words = lines.first { $0.hasPrefix("MemAvailable:") }?.split(separator: " ") ?? []
        return words.count >= 2 ? UInt64(words[1]) : nil
    }

    private static func sessions() -> UInt64 {
        var total: UInt64 = 0
        for name in AdminSocket.names() {
            guard let answer = try? AdminSocket.ask(.status, of: name), let status = JSON(parsing: answer) else {
                continue
            }
            total += stillTakenKiB(status)
        }
        return total
    }

    /// What a session may take at most (buffers_kib), less what its process has taken.
    static func stillTakenKiB(_ status: JSON) -> UInt64 {
        guard case .integer(let most)? = status["buffers_kib"], case .integer(let pid)? = status["pid"], most > 0 else {
            return 0
        }
        let text = (try? FileContents.read("/proc/\(pid)/statm", limitBytes: 4096)) ?? []
        let words = String(decoding: text, as: UTF8.self).split(separator: " ")
        let taken = words.count > 1 ? (Int64(words[1]) ?? 0) * 4 : 0
        return UInt64(max(0, most - taken))
    }

    // MARK: romulus.conf

    static func settings(_ path: String, peer: RunPeer? = nil) -> HostReport.Answer<HostReport.Settings> {
        do throws(ConfigurationError) {
            let configuration = try Configuration(path: path)
            let fence = peer.map { configuration.testFence(of: $0) }
            return .known(
                HostReport.Settings(
                    arbiter: configuration.arbiter,
                    arbiterTest: configuration.testFile(path) + configuration.testPluginsAndArbiter()
                        + (fence?.lines ?? []),
                    detectTimeoutMilliseconds: configuration.detectTimeoutMilliseconds,
                    epochLimitMiB: configuration.epochLimitMiB, pageCacheMiB: configuration.pageCacheMiB,
                    stagingMiB: configuration.stagingMiB, fenceOrder: fence?.order))
        } catch {
            return .unknown("\(error): correct it, nothing starts before")
        }
    }
}
