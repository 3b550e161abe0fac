import Foundation
import RomulusCore
import RomulusHost
import SimulatedXen
import Testing

extension ProtectionTests {
    /// Whole runs with plugins: the examples, and one that does as the test says.
    @Suite struct PluginRunTests {
        let folder: TemporaryFolder
        private static let root = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")

        init() throws { folder = try TemporaryFolder() }

        private func build(_ source: String, as name: String) throws -> String {
            let (status, output) = try Program.run(
                "/usr/bin/cc",
                [
                    "-std=c99", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror", "-I",
                    "\(Self.root)/Sources/RomulusPlugin/include", "-o", folder(name), "\(Self.root)/\(source)",
                ])
            try #require(status == 0, "\(output)")
            return folder(name)
        }

        private func example(_ name: String, _ options: String) throws -> String {
            try build("xl-config-examples/plugins/\(name).c", as: "\(name).so") + " " + options
        }

        private func contrary(_ callback: String, _ how: String) throws -> String {
            try build("Tests/Plugins/contrary.c", as: "contrary-\(callback).so")
                + " \(folder("calls")) \(callback) \(how)"
        }

        private func lines(_ name: String) -> [String] {
            ((try? String(contentsOfFile: folder(name), encoding: .utf8)) ?? "").split(separator: "\n").map(String.init)
        }

        private func calls(_ callback: String) -> Int { lines("calls").count { $0.hasPrefix(callback + " ") } }

        private func run(_ settings: ProtectedGuest.Settings, commits: Int = 6) throws -> (
            guest: ProtectedGuest, ending: ProtectedGuest.Ending
        ) {
            let guest = try ProtectedGuest(in: folder, settings)
            try guest.waitForCommits(commits)
            guest.interrupt()
            return (guest, try guest.end())
        }

        // MARK: The examples

        @Test(arguments: [Engine.native, .stock]) func theLastEpochIsAFileThatPlainXenRestores(engine: Engine) throws {
            let (guest, ending) = try run(
                .init(
                    engine: engine, slots: (primary: 256, backup: 256),
                    plugins: ([], [], [try example("last_epoch_sink", folder.path)])))
            let last = Int(ending.backup.lastEpoch.rawValue)
            #expect(last >= 6)
            for _ in 0..<200 where !FileManager.default.fileExists(atPath: folder("test.save")) { usleep(20_000) }
            let saved = try Data(contentsOf: URL(fileURLWithPath: folder("test.save")))
            #expect(saved.prefix(27) == Data("Xen saved domain, xl format".utf8))
            try saved.dropFirst(48).write(to: URL(fileURLWithPath: folder("stream")))
            let verdict = try Program.verifyStream(folder("stream"))
            #expect(verdict.status == 0, "\(verdict.output.suffix(800))")

            let other = try SimulatedDomain(emptyAt: folder("other"), domid: 11, pageCount: 1024)
            let restored = try StockStreams.startRestore(
                into: other, from: try OpenFile(folder("stream"), O_RDONLY), type: .plain
            ).outcome()
            #expect(restored.result == 0, "\(restored.story)")
            let copy = try #require(guest.copies[last - 1])
            #expect(other.differingPages(from: copy) == [] && other.context == copy.context)
            // Nothing is left behind but what the test has put there.
            #expect(
                try FileManager.default.contentsOfDirectory(atPath: folder.path).allSatisfy { !$0.contains("pages") })
        }

        @Test func theFileIsWrittenInBetweenWhenAskedFor() throws {
            let guest = try ProtectedGuest(
                in: folder,
                .init(periodMilliseconds: 20, plugins: ([], [], [try example("last_epoch_sink", folder.path)])))
            try guest.waitForCommits(3)
            #expect(!FileManager.default.fileExists(atPath: folder("test.save")))
            _ = try OpenFile(folder("test.save-now"), O_WRONLY | O_CREAT)
            try guest.waitForCommits(guest.commitsSeen + 20)
            #expect(FileManager.default.fileExists(atPath: folder("test.save")))
            #expect(!FileManager.default.fileExists(atPath: folder("test.save-now")))
            guest.interrupt()
            _ = try guest.end()
        }

        @Test func theObserverHasALineForEveryEpochAndTheSchedulersPeriodHolds() throws {
            let guest = try ProtectedGuest(
                in: folder,
                .init(
                    periodMilliseconds: 2,
                    plugins: (
                        [try example("csv_observer", folder("epochs.csv")), try contrary("schedule", "60000000")], [],
                        []
                    )))
            // The first answer may come when the next epoch has begun.
            try guest.waitForCommits(2)
            while !lines("epochs.csv").contains(where: { $0.hasSuffix(",60000") }) {
                try guest.waitForCommits(guest.commitsSeen + 1)
            }
            try guest.waitForCommits(guest.commitsSeen + 4)
            guest.interrupt()
            let ending = try guest.end()
            let rows = lines("epochs.csv").map { $0.split(separator: ",").map(String.init) }
            #expect(rows[0].first == "epoch" && rows.allSatisfy { $0.count == rows[0].count })
            #expect(rows.dropFirst().map { UInt64($0[0])! } == Array(1...ending.primary.statistics.epochCount))
            let periods = rows.dropFirst().map { Int($0.last!)! }.drop { $0 != 60_000 }
            #expect(periods.count >= 4 && periods.allSatisfy { $0 == 60_000 }, "\(periods)")
        }

        // MARK: One that does not do as it should

        @Test(arguments: [
            ("suspend", "hang-before"), ("suspend", "hang-behind"), ("suspend", "fail-before"),
            ("postcopy", "hang-before"), ("postcopy", "hang-behind"), ("postcopy", "fail-behind"),
            ("checkpoint", "hang-before"), ("checkpoint", "hang-behind"),
        ]) func theRunGoesOnAndTheGuestWaitsNoLongerThanTheLimit(callback: String, how: String) throws {
            let (_, ending) = try run(
                .init(plugins: ([], [try contrary(callback, how)], []), pluginTimeoutMilliseconds: 100))
            #expect(ending.saved.exit == .status(0) || ending.saved.result == -1, "\(ending.saved.story)")
            #expect(ending.primary.end.cause == .stopRequested(signalName: "SIGINT"))
            #expect(calls(callback) == 1)
            let said = ending.saved.standardError.split(separator: "\n").filter {
                $0.contains("is not called any more")
            }
            #expect(said.count == 1, "\(ending.saved.standardError)")
            #expect(ending.primary.statistics.pauseNanoseconds.largest.inMilliseconds < 5000)
        }

        @Test func aGoodOneIsCalledForEveryEpochAndClosed() throws {
            let (_, ending) = try run(.init(plugins: ([], [try contrary("postcopy", "good")], [])))
            #expect(calls("postcopy") >= Int(ending.primary.statistics.epochCount))
            #expect(calls("next") == calls("postcopy") && calls("close") == 1)
        }

        @Test func aHelperThatCannotUseThePluginDoesNotTouchTheGuest() throws {
            let guest = try ProtectedGuest(in: folder, .init(plugins: ([], [folder("nothing.so")], [])))
            let ending = try guest.end()
            #expect(ending.saved.result == -1 && guest.suspendRequests.isEmpty)
            #expect(ending.saved.standardError.contains("nothing.so cannot be used"))
        }

        @Test func anObserverThatHangsDelaysNoEpoch() throws {
            let guest = try ProtectedGuest(
                in: folder,
                .init(
                    periodMilliseconds: 30, plugins: ([try contrary("observe", "hang")], [], []),
                    pluginTimeoutMilliseconds: 3000))
            let begin = ContinuousClock.now
            // Long enough that it is left behind before the end.
            while ContinuousClock.now - begin < .milliseconds(3500) { try guest.waitForCommits(guest.commitsSeen + 1) }
            guest.interrupt()
            let ending = try guest.end()
            #expect(calls("observe") == 1 && ending.primary.statistics.epochCount >= 12)
            let requests = guest.suspendRequests
            let gaps = zip(requests, requests.dropFirst()).map { $1 - $0 }
            #expect(gaps.allSatisfy { $0 < .milliseconds(2500) }, "\(gaps)")
        }

        // MARK: Sinks

        @Test(arguments: ["good", "fail", "hang"]) func protectionGoesOnWhateverTheSinkDoes(how: String) throws {
            // The first copy is more than the sink may lag behind.
            let guest = try ProtectedGuest(
                in: folder,
                .init(pages: 4096, plugins: ([], [], [try contrary("sink", how)]), pluginTimeoutMilliseconds: 100))
            try guest.waitForCommits(4)
            guest.wire.stall()
            let ending = try guest.end(hangsUp: false)
            try guest.expectFailover(ending, how)
            if how == "good" {
                let epochs = lines("calls").compactMap {
                    $0.hasPrefix("sink ") ? Int($0.split(separator: " ")[1]) : nil
                }
                #expect(epochs == Array(1...Int(ending.backup.lastEpoch.rawValue)), "every epoch, in order")
            } else {
                #expect(calls("sink") == 0)
            }
        }

        @Test func aSinkThatFallsBehindIsGivenUpBeforeItTakesAllMemory() throws {
            let (_, ending) = try run(
                .init(dirtyPages: 900, plugins: ([], [], [try contrary("sink", "slow1500")])), commits: 12)
            #expect(ending.backup.lastEpoch.rawValue >= 12)
            #expect(calls("sink") < 6 && calls("close") == 0)
        }

        // MARK: Suspicion

        @Test(arguments: [("400once", 700, 3000), ("hang", 400, 3000), ("0", 300, 3000), ("150", 3000, 8000)])
        func theBackupIsAsPatientAsItIsToldToBe(how: String, atLeast: Int, atMost: Int) throws {
            let guest = try ProtectedGuest(
                in: folder,
                .init(
                    detectTimeoutMilliseconds: 300, arbiter: .none, plugins: ([], [], [try contrary("suspect", how)]),
                    pluginTimeoutMilliseconds: 100))
            try guest.waitForCommits(3)
            guest.wire.stall()
            let ending = try guest.end(hangsUp: false)
            try guest.expectFailover(ending, how)
            let waited = (ending.backup.decidedAt - ending.backup.lastHeardAt).inMilliseconds
            #expect(waited >= atLeast && waited <= atMost, "\(how): \(waited) ms")
        }
    }
}
