import Foundation
import RomulusCore
import Testing

@testable import RomulusHost

@Suite struct TelemetryTests {
    private let folder = TestFolder()

    private func completed(_ number: UInt64, pauseMilliseconds: Int, linkBytes: UInt64 = 5000) -> CompletedEpoch {
        func time(_ milliseconds: Int) -> MonotonicTime {
            MonotonicTime(nanoseconds: .nanoseconds(milliseconds: Int(number) * 1000 + milliseconds))
        }
        let pause = pauseMilliseconds
        return CompletedEpoch(
            number: Epoch(rawValue: number),
            times: EpochTimes(
                epoch: Epoch(rawValue: number), requested: time(0), suspended: time(1), copying: nil,
                saved: time(pause - 1),
                outputHeld: time(pause - 1), resumed: time(pause)),
            size: EpochSize(pages: 10, streamBytes: 40_000, linkBytes: linkBytes), sentAt: time(pause + 1),
            committedAt: time(pause + 30))
    }

    // MARK: JSON

    @Test func whatIsWrittenIsRead() throws {
        let value = JSON.object([
            .init("text", "a \"quoted\" \u{1} line\nand ü"), .init("whole", -7), .init("part", .number(0.125)),
            .init("list", .array([.null, .bool(true), .bool(false), .object([])])),
        ])
        #expect(JSON(parsing: value.encoded()) == value)
        #expect(JSON(parsing: value.encoded(isIndented: true)) == value)
        let foreign = try JSONSerialization.jsonObject(with: Data(value.encoded().utf8)) as? [String: Any]
        #expect(foreign?["part"] as? Double == 0.125)
    }

    @Test(arguments: [
        "", "{", "[1,]", "nonsense", "{\"a\": 1} 2",
        String(repeating: "[", count: 40) + String(repeating: "]", count: 40),
        String(repeating: " ", count: 2 << 20),
    ]) func whatIsNoJSONIsNothing(text: String) {
        #expect(JSON(parsing: text) == nil)
    }

    // MARK: Events

    private func event(_ number: Int) -> Event {
        Event(time: Int64(number), guest: "web", level: .warning, text: "number \(number) of \"many\"")
    }

    @Test func eventsAreKeptInTheirOrder() {
        let file = EventFile(path: folder("events"), limitBytes: 1 << 20)
        #expect(file.events() == nil)
        for number in 0..<20 { file.append(event(number)) }
        #expect(file.events() == (0..<20).map(event))
    }

    @Test func theFileIsBoundedAndTheNewestStay() throws {
        let file = EventFile(path: folder("events"), limitBytes: 4096)
        for number in 0..<500 {
            file.append(event(number))
            let size = try FileManager.default.attributesOfItem(atPath: folder("events"))[.size] as? Int
            #expect(size! <= 4096)
        }
        let kept = file.events()!
        #expect(kept.count > 10 && kept == (500 - kept.count..<500).map(event))
    }

    @Test func damagedLinesAreLeftOut() throws {
        let file = EventFile(path: folder("events"), limitBytes: 1 << 20)
        file.append(event(1))
        let handle = FileHandle(forWritingAtPath: folder("events"))!
        handle.seekToEndOfFile()
        handle.write(Data("{\"time\": 1, \"gue\n\u{0}\n".utf8))
        file.append(event(2))
        #expect(file.events() == [event(1), event(2)])
    }

    @Test func severalWritersLoseNothing() {
        let file = EventFile(path: folder("events"), limitBytes: 64 << 10)
        DispatchQueue.concurrentPerform(iterations: 4) { writer in
            for number in 0..<50 { file.append(event(writer * 1000 + number)) }
        }
        #expect(Set(file.events()!.map(\.time)).count == 200)
    }

    @Test func aLogTellsTheFileAndItsNewestLine() {
        let file = EventFile(path: folder("events"), limitBytes: 1 << 20)
        let log = Log(guest: "web", role: "test", events: file)
        log.warning("one\nline")
        #expect(log.newestEvent?.text == "one line" && log.newestEvent?.guest == "web")
        #expect(file.events()?.map(\.text) == ["one line"])
    }

    // MARK: Metrics

    @Test func metricsAreInPrometheusForm() {
        var metrics = Metrics(guest: "we\"b\\")
        metrics.state = .protected
        metrics.add(completed(1, pauseMilliseconds: 20))
        metrics.add(completed(2, pauseMilliseconds: 300))
        let lines = metrics.text.split(separator: "\n").map(String.init)
        let label = #"guest="we\"b\\""#
        for line in [
            "romulus_protected{\(label)} 1", "romulus_frozen{\(label)} 0", "romulus_epochs_total{\(label)} 2",
            "romulus_link_bytes_total{\(label)} 10000", "romulus_pause_seconds_bucket{\(label),le=\"0.02\"} 1",
            "romulus_pause_seconds_bucket{\(label),le=\"0.5\"} 2",
            "romulus_pause_seconds_bucket{\(label),le=\"+Inf\"} 2",
            "romulus_pause_seconds_count{\(label)} 2", "romulus_pause_seconds_sum{\(label)} 0.32",
            "romulus_acknowledge_seconds_bucket{\(label),le=\"0.05\"} 2",
            "# TYPE romulus_pause_seconds histogram", "# TYPE romulus_epochs_total counter",
        ] { #expect(lines.contains(line), "\(line)") }
        // Each family is described once, and every sample belongs to the one that was described last.
        var family = ""
        var seen: Set<String> = []
        for line in lines {
            if line.hasPrefix("# HELP ") {
                family = String(line.split(separator: " ")[2])
                #expect(seen.insert(family).inserted)
            } else {
                #expect(line.hasPrefix("# TYPE \(family) ") || line.hasPrefix(family))
            }
        }
    }

    /// A run that was killed leaves its numbers behind, and with them the claim that the guest is protected.
    @Test func theMetricsFileIsThereWhileTheRunIs() throws {
        try folder.write("romulus-a_b.prom", "stale")
        let file = try MetricsFile(directory: folder.path, guest: "a/b", log: Log(guest: ""))
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty)
        var telemetry = RunTelemetry(guest: "a/b", trace: nil, metrics: file)
        telemetry.isNow(.protected, held: HeldOutput(packets: 3))
        var text: String?
        for _ in 0..<80 where text == nil {
            usleep(100_000)
            text = try? String(contentsOfFile: folder("romulus-a_b.prom"), encoding: .utf8)
        }
        #expect(text?.contains("romulus_protected{guest=\"a/b\"} 1\n") == true)
        telemetry.close()
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty)
    }

    @Test func whereMetricsCannotBeWrittenOneLineSaysSo() throws {
        let log = Log(guest: "web")
        let file = try MetricsFile(directory: folder("missing"), guest: "web", log: log)
        file.update { "text" }
        file.close()
        #expect(log.newestEvent?.text.contains("metrics cannot be written") == true)
    }

    @Test func theBackupsMetricsSayWhetherTheGuestWouldGoOnThere() {
        var metrics = BackupMetrics(guest: "web", state: .copying)
        #expect(metrics.text.contains("romulus_replica_ready{guest=\"web\"} 0\n"))
        metrics.state = .protected
        metrics.epoch = Epoch(rawValue: 7)
        metrics.silenceNanoseconds = 250_000_000
        let lines = metrics.text.split(separator: "\n").filter { !$0.hasPrefix("#") }
        #expect(
            lines == [
                "romulus_replica_ready{guest=\"web\"} 1", "romulus_replica_deciding{guest=\"web\"} 0",
                "romulus_last_epoch_timestamp_seconds{guest=\"web\"} 0", "romulus_replica_epoch{guest=\"web\"} 7",
                "romulus_replica_silence_seconds{guest=\"web\"} 0.25",
            ])
    }

    // MARK: Lines

    @Test func aGuestsNameStaysWithinItsLine() {
        let log = Log(guest: "web\u{1B}[2J\nromulus: db: note: all is well")
        log.note("protected")
        #expect(log.newestEvent?.guest == "web [2J romulus: db: note: all is well")
    }

    // MARK: A run's numbers

    @Test func anEpochIsPutTogetherOnceAllOfItIsKnown() throws {
        let epoch = completed(2, pauseMilliseconds: 20)
        let trace = try EpochTrace(path: folder("trace"), guest: "web")
        var telemetry = RunTelemetry(guest: "web", trace: trace, metrics: nil)
        for number in [UInt64(1), 2] {
            let one = completed(number, pauseMilliseconds: 20)
            telemetry.resumed(one.times)
            telemetry.sent(one.size)
            #expect(telemetry.committed(one.number)?.times == one.times)
        }
        #expect(telemetry.periodNanoseconds == 1_000_000_000)
        #expect(telemetry.statistics.epochCount == 2 && telemetry.statistics.pages.count == 1)
        #expect(telemetry.committed(Epoch(rawValue: 3)) == nil)
        trace.drain()
        let lines = try String(contentsOfFile: folder("trace"), encoding: .utf8).split(separator: "\n")
        #expect(lines.count == 3 && lines[2].hasPrefix("2,2000000,1000,"))
        #expect(lines[0].hasSuffix(",acknowledged_us,guest") && lines[2].hasSuffix(",web"))
        let status = JSON.object(
            telemetry.details(schedule: .fixed(periodNanoseconds: 1), arbiter: .lease, held: HeldOutput(packets: 2)))
        #expect(status["pause_ms"] == .number(20) && status["schedule"] == "fixed" && status["arbiter"] == "lease")
        #expect(status["held_packets"] == 2 && status["link_bytes"] == .integer(Int64(epoch.size.linkBytes)))
    }
}
