import Glibc
import RomulusCore
import Synchronization
import Testing

@testable import RomulusHost

/// Plugins outside a run: how they are loaded, and what becomes of one that does not do as it should.
@Suite(.serialized, .timeLimit(.minutes(2))) struct PluginTests {
    private let folder = TestFolder()
    /// Milliseconds for one that is not late, on a machine with much to do; and for one that is.
    private static let patience = 5000
    private static let impatience = 100
    private static let root = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")

    /// A copy of its own of Tests/Plugins/contrary.c, because a library is loaded once.
    private func build(_ name: String = "contrary", _ defines: String...) throws -> String {
        let outcome = Subprocess.run(
            ["cc", "-std=c99", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror"] + defines + [
                "-I", "\(Self.root)/Sources/RomulusPlugin/include", "-o", folder("\(name).so"),
                "\(Self.root)/Tests/Plugins/contrary.c",
            ], timeoutMilliseconds: 60_000)
        guard outcome.status == 0 else { throw SystemError(outcome.output, code: 0) }
        return folder("\(name).so")
    }

    private func load(
        _ settings: String..., timeoutMilliseconds: Int = Self.patience, process: PluginHost.Process = .test
    ) throws(PluginError) -> PluginSet {
        try PluginSet(
            .init(plugins: settings, timeoutMilliseconds: timeoutMilliseconds), PluginHost(process, guest: "guest"),
            log: Log(guest: "test"))
    }

    private func contrary(_ callback: String, _ how: String) throws -> PluginSet {
        let isGood = ["good", "twice", "0", "1", "2", "250"].contains(how)
        return try load(
            "\(build()) \(folder("calls")) \(callback) \(how)",
            timeoutMilliseconds: isGood ? Self.patience : Self.impatience)
    }

    private func calls(_ name: String) -> Int {
        folder.read("calls").split(separator: "\n").filter { $0.hasPrefix(name + " ") }.count
    }

    // MARK: Loading

    @Test func whatCannotBeUsedIsRefusedInOneLineWithTheReason() throws {
        let cases: [(String, String)] = [
            (folder("nothing.so"), "No such file"),
            (try build("abi", "-DABI=7"), "it speaks plugin ABI 7, and this Romulus 1"),
            (try build("small", "-DSIZE=16"), "has only 16 bytes"),
            (try build("nameless", "-DENTRY=another_name"), "exports no romulus_plugin"),
            (try build("choosy") + " nonsense", "it refuses to work"),
        ]
        for (setting, words) in cases {
            do {
                _ = try load(setting)
                Issue.record("loaded: \(setting)")
            } catch {
                #expect("\(error)".contains(words) && !"\(error)".contains("\n"), "\(error)")
                #expect("\(error)".contains("`plugin' in /etc/xen/romulus.conf"))
            }
        }
    }

    @Test func aShorterStructureLacksItsTailAndALongerOneIsFine() throws {
        // Up to and with `close`: everything else is not looked at.
        let short = try load("\(build("short", "-DSIZE=40")) \(folder("calls")) observe good")
        #expect(short.plugins[0].callbacks.close != nil && short.plugins[0].callbacks.observe == nil)
        let long = try load("\(build("long", "-DSIZE=4000")) \(folder("calls")) observe good")
        #expect(long.plugins[0].callbacks.observe != nil)
        #expect(long.plugins[0].name == "contrary")
        short.close()
        long.close()
        #expect(calls("close") == 2)
    }

    @Test func settingsPassThroughTheEnvironment() {
        let settings = PluginSettings(plugins: ["/a b c", "/d"], timeoutMilliseconds: 7)
        #expect(PluginSettings(environmentValue: settings.environmentValue) == settings)
        #expect(PluginSettings(environmentValue: nil) == PluginSettings())
        #expect(PluginSettings().environmentValue == nil)
    }

    // MARK: Steps

    /// Some turns at a step; what libxl's would have been counts each time.
    private func take(
        _ set: PluginSet, times: Int = 3, result: Int32 = 1, _ body: @escaping () -> Void = {}
    ) throws -> (results: [Int32], nextCount: Int, longest: Int) {
        let steps = try StepPlugins(set)
        var (results, count, longest) = ([Int32](), 0, 0)
        for number in 1...times {
            let begun = MonotonicTime.now
            results.append(
                steps.take(.suspend, Epoch(rawValue: UInt64(number))) {
                    count += 1
                    body()
                    return result
                })
            longest = max(longest, (MonotonicTime.now - begun).inMilliseconds)
        }
        return (results, count, longest)
    }

    @Test func aGoodOneStandsAroundLibxls() throws {
        let set = try contrary("suspend", "good")
        let (results, count, _) = try take(set)
        #expect(results == [1, 1, 1] && count == 3)
        #expect(calls("suspend") == 3 && calls("next") == 3)
        set.close()
        #expect(calls("close") == 1)
    }

    @Test(arguments: ["hang-before", "hang-behind", "fail-before", "fail-behind", "late"])
    func libxlsStepIsTakenOnceWhateverThePluginDoes(how: String) throws {
        let set = try contrary("suspend", how)
        let (results, count, longest) = try take(set)
        #expect(results == [1, 1, 1] && count == 3, "\(how)")
        #expect(calls("suspend") == 1, "\(how): it is not called again")
        #expect(longest < 1000, "\(how): \(longest) ms")
        #expect(!set.plugins[0].lane.isWorking)
        if how == "late" {
            usleep(600_000)
            #expect(folder.read("calls").contains("next 1 -1"), "a late call is an error: \(folder.read("calls"))")
        }
    }

    @Test func theTimeOfLibxlsStepIsNotThePlugins() throws {
        let set = try contrary("suspend", "good")
        let (results, _, _) = try take(set) { usleep(300_000) }
        #expect(results == [1, 1, 1] && set.plugins[0].lane.isWorking)
    }

    @Test func aSecondCallOfNextIsAnErrorAndDoesNothing() throws {
        let (results, count, _) = try take(try contrary("suspend", "twice"))
        #expect(results == [1, 1, 1] && count == 3)
        #expect(folder.read("calls").contains("again 1 -1"))
    }

    @Test func aFailureOfLibxlsIsNoFaultOfThePlugins() throws {
        let set = try contrary("suspend", "good")
        #expect(try take(set, result: 0).results == [0, 0, 0])
        #expect(set.plugins[0].lane.isWorking && calls("suspend") == 3)
    }

    @Test func laterPluginsStandAroundEarlierOnes() throws {
        let set = try load(
            "\(build("inner")) \(folder("calls")) suspend inner", "\(build("outer")) \(folder("calls")) suspend outer")
        #expect(try take(set, times: 1).results == [1])
        let order = folder.read("calls").split(separator: "\n").map { $0.split(separator: " ") }.map {
            "\($0[0]) \($0[3])"
        }
        #expect(order == ["suspend outer", "suspend inner", "next inner", "next outer"])
    }

    @Test func anInnerPluginThatHangsDoesNotCostTheOuterOneItsPlace() throws {
        let set = try load(
            "\(build("inner")) \(folder("calls")) suspend hang-before",
            "\(build("outer")) \(folder("calls")) suspend good",
            timeoutMilliseconds: 500)
        #expect(try take(set).results == [1, 1, 1])
        #expect(!set.plugins[0].lane.isWorking && set.plugins[1].lane.isWorking)
    }

    // MARK: Epochs

    private func completed(_ number: UInt64) -> CompletedEpoch {
        let now = MonotonicTime.now
        return CompletedEpoch(
            number: Epoch(rawValue: number),
            times: EpochTimes(
                epoch: Epoch(rawValue: number), requested: now, suspended: now, copying: nil, saved: now,
                outputHeld: now, resumed: now),
            size: EpochSize(pages: 1, streamBytes: 2, linkBytes: 3), sentAt: now, committedAt: now)
    }

    private func period(_ plugins: EpochPlugins, after number: UInt64, milliseconds: Int = 2000) -> Int64? {
        let end = MonotonicTime.now + .nanoseconds(milliseconds: milliseconds)
        while MonotonicTime.now < end {
            if let period = plugins.takePeriod(after: Epoch(rawValue: number)) { return period }
            usleep(1000)
        }
        return nil
    }

    @Test func aSchedulerChoosesAndALaterOneHearsIt() throws {
        let set = try load(
            "\(build("first")) \(folder("calls")) schedule 50000000", "\(build("second")) \(folder("calls")) schedule 0"
        )
        let plugins = try #require(try EpochPlugins(set))
        plugins.committed(completed(1), aimedNanoseconds: 0, periodNanoseconds: 7_000_000)
        #expect(period(plugins, after: 1) == 50_000_000)
        #expect(folder.read("calls") == "schedule 1 7000000 50000000\nschedule 1 50000000 0")
        plugins.committed(completed(2), aimedNanoseconds: 0, periodNanoseconds: 7_000_000)
        #expect(period(plugins, after: 3, milliseconds: 200) == nil, "an answer for another epoch is none")
    }

    @Test(arguments: ["999999", "60000000001", "hang"]) func aBadPeriodIsRomulussOwn(how: String) throws {
        let set = try contrary("schedule", how)
        let plugins = try #require(try EpochPlugins(set))
        #expect(plugins.choosesPeriods)
        plugins.committed(completed(1), aimedNanoseconds: 0, periodNanoseconds: 7_000_000)
        #expect(period(plugins, after: 1, milliseconds: 300) ?? 0 == 0)
        plugins.committed(completed(2), aimedNanoseconds: 0, periodNanoseconds: 7_000_000)
        #expect(!plugins.choosesPeriods)
        #expect(period(plugins, after: 2) == 0)
        #expect(calls("schedule") == 1)
    }

    @Test func anObserverThatIsTooSlowDelaysNobodyAndIsLeftBehind() throws {
        let plugins = try #require(try EpochPlugins(try contrary("observe", "slow400")))
        for number in UInt64(1)...4 {
            let begun = MonotonicTime.now
            plugins.committed(completed(number), aimedNanoseconds: 0, periodNanoseconds: 1)
            #expect((MonotonicTime.now - begun).inMilliseconds < 350)
            usleep(150_000)
        }
        #expect(calls("observe") == 1)
    }

    // MARK: Suspicion

    private func suspicion(_ how: String) throws -> (answer: Int64?, took: Int, set: PluginSet) {
        let set = try contrary("suspect", how)
        let plugins = try #require(try SuspicionPlugins(set))
        let begun = MonotonicTime.now
        plugins.ask(silenceNanoseconds: 1, timesBefore: 0, epoch: Epoch(rawValue: 1), now: begun)
        while plugins.deadline != nil, (MonotonicTime.now - begun).inMilliseconds < 2000 {
            if let answer = plugins.takeAnswer(now: .now) {
                return (answer, (MonotonicTime.now - begun).inMilliseconds, set)
            }
            usleep(1000)
        }
        return (nil, 2000, set)
    }

    @Test func aSecondOpinionIsGivenOrTakenForAgreement() throws {
        let patient = try suspicion("250")
        #expect(patient.answer == .nanoseconds(milliseconds: 250) && patient.took < Self.patience)
        #expect(try suspicion("0").answer == 0)
        let hanging = try suspicion("hang")
        #expect(hanging.answer == 0 && hanging.took >= 100 && hanging.took < 1000)
        #expect(!hanging.set.plugins[0].lane.isWorking)
    }

    // MARK: Arbiters

    private func decide(_ how: String, milliseconds: Int = 1500) throws -> (ArbiterVerdict?, [String]) {
        let arbiter = try #require(PluginArbiter(try contrary("arbitrate", how), guestUUID: "u-u-i-d", run: 42))
        let end = MonotonicTime.now + .nanoseconds(milliseconds: milliseconds)
        var notes: [String] = []
        let verdict = arbiter.decide(.backup, note: { notes.append($0) }, isCancelled: { MonotonicTime.now > end })
        return (verdict, notes)
    }

    @Test func anArbitersVerdictIsItsOwn() throws {
        #expect(try decide("1").0 == .granted("the test says 1 of u-u-i-d"))
        #expect(try decide("2").0 == .refused("the test says 2 of u-u-i-d"))
        #expect(folder.read("calls") == "arbitrate 2 42 1\narbitrate 2 42 2")
    }

    @Test func noVerdictIsAskedForAgainAndToldOnce() throws {
        let (verdict, notes) = try decide("0", milliseconds: 2600)
        #expect(verdict == nil && calls("arbitrate") >= 2)
        #expect(notes.count == 1 && notes[0].contains("the test says 0"))
    }

    @Test func anArbiterThatHangsIsNoVerdictAndDoesNotHoldTheEndUp() throws {
        let begun = MonotonicTime.now
        let (verdict, notes) = try decide("hang", milliseconds: 500)
        #expect(verdict == nil && notes.count == 1 && notes[0].contains("has not answered"))
        #expect((MonotonicTime.now - begun).inMilliseconds < 5000)
    }
}
