import Glibc
import RomulusCore
import Testing

@testable import RomulusHost

@Suite struct ConfigurationTests {
    private static let path = "/etc/xen/romulus.conf"

    private func load(_ text: String) throws(ConfigurationError) -> Configuration {
        try Configuration(file: ConfigurationFile(text: Array(text.utf8), path: Self.path))
    }

    @Test func aMissingFileSetsNothing() throws {
        #expect(try Configuration(path: "/nonexistent/romulus.conf") == Configuration())
    }

    @Test func everyKeyIsRead() throws {
        let configuration = try load(
            """
            # a comment with detect_timeout_ms = 7
            detect_timeout_ms = 250; staging_mib=64
            stock_detect_timeout_ms = "3000"
            epoch_limit_mib = 512
            epoch_log = "/tmp/epochs.csv"
            lock_memory = 0; realtime_priority = 3
            """)
        #expect(!configuration.locksMemory && configuration.realtimePriority == 3)
        #expect(Configuration().locksMemory && Configuration().realtimePriority == 0)
        #expect(configuration.detectTimeoutMilliseconds == 250)
        #expect(configuration.stockDetectTimeoutMilliseconds == 3000)
        #expect(configuration.stagingMiB == 64)
        #expect(configuration.epochLimitMiB == 512)
        #expect(configuration.epochLogPath == "/tmp/epochs.csv")
    }

    @Test func theArbitersKeysAreRead() throws {
        let fence = try load(
            """
            arbiter = "fence"
            fence_agent = "fence_ipmilan"
            fence_options = [ "ip=10.0.0.2", "password=a=b c" ]
            fence_timeout_ms = 5000; fence_delay_ms = 700
            """)
        #expect(fence.arbiter == .fence && fence.fenceAgent == "fence_ipmilan")
        #expect(fence.fenceOptions == ["ip=10.0.0.2", "password=a=b c"])
        #expect(
            fence.fenceTimeoutMilliseconds == 5000 && fence.fenceDelayMilliseconds == 700 && fence.fenceOrder == nil)
        let lease = try load(
            """
            arbiter = "lease"
            lease_endpoints = [ "http://10.0.0.3:2379", "http://10.0.0.4:2379" ]
            lease_options = [ "--user=romulus" ]
            lease_ttl_s = 5; lease_timeout_ms = 900; netbuf_limit_kib = 64
            """)
        #expect(lease.arbiter == .lease && lease.leaseEndpoints.count == 2 && lease.leaseOptions == ["--user=romulus"])
        #expect(lease.leaseTTLSeconds == 5 && lease.leaseTimeoutMilliseconds == 900 && lease.netbufLimitKiB == 64)
        #expect(try load("").arbiter == .none)
    }

    @Test func theScheduleIsFixedUntilItIsAskedForAnother() throws {
        #expect(try load("").schedule == .fixed(periodNanoseconds: 200_000_000))
        #expect(try load("period_ms = 50; max_pause_percent = 10").schedule == .fixed(periodNanoseconds: 50_000_000))
        let adaptive = try load(
            """
            schedule = "adaptive"
            period_floor_ms = 20; period_ceiling_ms = 500
            max_pause_percent = 10; max_output_delay_ms = 80; max_mbit_per_s = 800
            metrics_directory = "/tmp"
            """)
        #expect(
            adaptive.schedule
                == .adaptive(
                    ScheduleBudgets(
                        floorNanoseconds: 20_000_000, ceilingNanoseconds: 500_000_000, pauseShare: 0.1,
                        outputDelayNanoseconds: 80_000_000, bytesPerSecond: 1e8)))
        #expect(adaptive.metricsDirectory == "/tmp")
        #expect(throws: ConfigurationError.self) { try load("period_floor_ms = 501; period_ceiling_ms = 500") }
        #expect(throws: ConfigurationError.self) { try load("max_pause_percent = 0") }
        #expect(throws: ConfigurationError.self) { try load("schedule = \"clever\"") }
    }

    @Test func pluginsAreRead() throws {
        let configuration = try load(
            """
            plugin = [ "/usr/lib/one.so", "/usr/lib/two.so with its options" ]
            plugin_timeout_ms = 10; arbiter = "plugin"
            """)
        #expect(configuration.plugins.plugins == ["/usr/lib/one.so", "/usr/lib/two.so with its options"])
        #expect(configuration.plugins.timeoutMilliseconds == 10 && configuration.arbiter == .plugin)
        #expect(try load("").plugins == PluginSettings(plugins: [], timeoutMilliseconds: 100))
    }

    @Test func anArbiterThatCannotWorkIsRefusedWithWhatToDo() {
        for (text, words) in [
            ("arbiter = \"quorum\"", "choose"), ("arbiter = \"fence\"", "fence_agent"),
            ("fence_options = [ \"ip\" ]", "name=value"), ("fence_options = \"ip=1\"", "list"),
            ("lease_ttl_s = 1", "between 2 and 60"), ("arbiter = \"plugin\"", "needs a plugin"),
            ("plugin = [ \"name.so\" ]", "whole path"), ("plugin = \"/name.so\"", "list"),
            ("plugin_timeout_ms = 0", "between 1 and 10000"),
        ] {
            do {
                _ = try load("\n" + text)
                Issue.record("accepted: \(text)")
            } catch {
                #expect("\(error)".contains(words) && "\(error)".hasPrefix("/etc/xen/romulus.conf:2: "), "\(error)")
            }
        }
        // A value may be a secret.
        do {
            _ = try load("fence_options = [ \"password\" ]")
        } catch {
            #expect("\(error)".contains("password"))
        }
    }

    @Test func anUnknownKeyIsNamedWithFileAndLine() {
        #expect(throws: ConfigurationError.unknownKey(path: Self.path, line: 3, key: "detect_timeout")) {
            try load("# one\nstaging_mib = 8\ndetect_timeout = 1000\n")
        }
        #expect(throws: ConfigurationError.unknownKey(path: Self.path, line: 1, key: "x")) {
            try load("x = [ \"a=b\" ]")
        }
    }

    @Test func aWrongTypeOrValueIsNamedWithFileLineAndKey() {
        #expect(throws: ConfigurationError.notANumber(path: Self.path, line: 2, key: "staging_mib")) {
            try load("\nstaging_mib = \"much\"\n")
        }
        #expect(throws: ConfigurationError.notANumber(path: Self.path, line: 1, key: "staging_mib")) {
            try load("staging_mib = [ \"1\" ]\n")
        }
        #expect(throws: ConfigurationError.notAString(path: Self.path, line: 1, key: "epoch_log")) {
            try load("epoch_log = [ \"1\" ]\n")
        }
        #expect(
            throws: ConfigurationError.outOfRange(
                path: Self.path, line: 1, key: "detect_timeout_ms", value: 99, allowed: 100...3_600_000)
        ) { try load("detect_timeout_ms = 99") }
        let message = ConfigurationError.outOfRange(
            path: Self.path, line: 1, key: "detect_timeout_ms", value: 99, allowed: 100...3_600_000)
        #expect(
            message.description
                == "/etc/xen/romulus.conf:1: `detect_timeout_ms' is 99, but must be between 100 and 3600000")
    }

    @Test func aSyntaxErrorNamesFileAndLine() {
        #expect {
            try load("staging_mib = 8\nstaging_mib == 9\n")
        } throws: { error in
            guard case .syntax(let message)? = error as? ConfigurationError else { return false }
            return message.contains("/etc/xen/romulus.conf:2")
        }
    }

    @Test func keysInStringsCommentsAndListsAreNone() {
        let text = "a = \"b = 'c' # d = 1\" # e = 2\nf = [ \"g = 3\",\n \"h\" ]\ni='j=4';k=5"
        #expect(ConfigurationKeys.lines(in: Array(text.utf8)) == ["a": 1, "f": 2, "i": 4, "k": 4])
    }

    @Test func aDirectoryIsUnreadable() {
        #expect(throws: ConfigurationError.self) { try Configuration(path: "/tmp") }
    }

    @Test func theShippedFileLoadsAndDocumentsEveryKey() throws {
        let shipped = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        let path = "/\(shipped)/Sources/Launcher/romulus.conf"
        #expect(try Configuration(path: path) == Configuration())
        let file = try #require(fopen(path, "r"))
        defer { fclose(file) }
        var text = [CChar](repeating: 0, count: 1 << 16)
        fread(&text, 1, text.count - 1, file)
        let lines = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self).split(
            separator: "\n")
        for key in Configuration.Key.allCases {
            let setting = try #require(lines.first { $0.hasPrefix("#\(key.rawValue) = ") }, "\(key) is not documented")
            _ = try load(String(setting.dropFirst()))
        }
    }

    @Test func theExamplesAreWhatTheySayTheyAre() throws {
        let root = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        let folder = "/\(root)/xl-config-examples"
        let handle = try #require(opendir(folder))
        defer { closedir(handle) }
        var seen = 0
        while let entry = readdir(handle) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name.hasPrefix("romulus-") {
                #expect(try Configuration(path: "\(folder)/\(name)") != Configuration(), "\(name) sets nothing")
            } else if name.hasSuffix(".cfg") {
                let guest = try #require(try ConfigurationFile.read(path: "\(folder)/\(name)"))
                #expect(try guest.string("name") != nil && guest.integer("memory", in: 1...1_000_000) != nil)
            } else {
                continue
            }
            seen += 1
        }
        #expect(seen >= 8)
    }

    @Test func theHostsOfTheFencedPairNameEachOthersSwitch() throws {
        let root = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        let hosts = try ["a", "b"].map {
            try Configuration(path: "/\(root)/xl-config-examples/romulus-fence-host-\($0).conf")
        }
        #expect(hosts.allSatisfy { $0.arbiter == .fence && $0.fencePeers.count == 1 })
        #expect(Set(hosts.flatMap(\.fencePeers).compactMap { $0.options.first { $0.hasPrefix("ip=") } }).count == 2)
        #expect(hosts.map { $0.fencePeers[0].key } == ["hostb", "hosta"])
    }

    @Test func defaultsFollowTheGuest() {
        let configuration = Configuration()
        #expect(configuration.stagingBytes(guestKiB: 1 << 20) == 256 << 20)
        #expect(configuration.stagingBytes(guestKiB: 4096) == 16 << 20)
        #expect(configuration.stagingBytes(guestKiB: 64 << 20) == 512 << 20)
        #expect(configuration.epochLimitBytes(guestKiB: 1 << 20) == (1024 + 64) << 20)
    }

    /// Each page has eight bytes beside it: of 40 GiB they are more than 64 MiB.
    @Test func anEpochOfAllOfALargeGuestIsWithinItsLimit() {
        let pages = 40 << 18
        #expect(Configuration().epochLimitBytes(guestKiB: 40 << 20) > pages * (4096 + 8) + (16 << 20))
    }

    @Test func aPasswordThatEverybodyMayReadIsAProblem() throws {
        let folder = TestFolder()
        try folder.write("conf", "", mode: 0o644)
        var configuration = Configuration()
        #expect(configuration.testFile(folder("conf")).isEmpty)
        configuration.fenceOptions = ["ip=10.0.0.2", "password=secret"]
        let lines = configuration.testFile(folder("conf"))
        #expect(lines.count == 1 && lines[0].isProblem && lines[0].text.hasSuffix("chmod 640 \(folder("conf"))"))
        chmod(folder("conf"), 0o640)
        #expect(configuration.testFile(folder("conf")).isEmpty)
    }

    @Test func memoryThatIsNotSetIsNoTrap() {
        #expect(Configuration().epochLimitBytes(guestKiB: .max) == 1 << 40)
    }

    /// The kernel's plug counts bytes in 32 bits, of which libnl takes 31.
    @Test func aBufferThatThePlugCannotCountIsRefused() throws {
        #expect(try load("netbuf_limit_kib = 2097151").netbufLimitKiB == 2_097_151)
        #expect(throws: ConfigurationError.self) { _ = try load("netbuf_limit_kib = 2097152") }
    }
}
