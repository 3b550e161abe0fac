import RomulusHost
import Testing

@testable import romulus_cli

@Suite struct StatusTests {
    private let primary = JSON(
        parsing: """
            {"guest": "web", "side": "primary", "state": "protected", "epoch": 178, "period_ms": 201.25, "pause_ms": 12.345,
             "pause_parts_ms": {"suspend": 4, "log": 0.5, "copy": 2.25, "state": 1, "hold": 0.5, "resume": 4},
             "pages": 464, "stream_bytes": 1900544, "link_bytes": 38010, "acknowledge_ms": 8.5, "held_packets": 3,
             "last_event": {"time": 0, "guest": "web", "level": "note", "text": "protected: all is well"}}
            """)!
    private let backup = JSON(parsing: #"{"guest": "db", "side": "backup", "state": "first copy", "epoch": 0}"#)!

    @Test func aRowPerSessionInColumns() {
        let lines = StatusTable([primary, backup]).lines
        let cells = lines.map { $0.split(separator: "  ").map { $0.drop { $0 == " " } } }
        #expect(
            cells[0] == [
                "GUEST", "SIDE", "STATE", "EPOCH", "PERIOD", "PAUSE", "SUSPEND", "LOG", "COPY", "STATE", "HOLD",
                "RESUME",
                "PAGES", "KIB", "RATIO", "ACK", "HELD",
            ])
        #expect(
            cells[1] == [
                "web", "primary", "protected", "178", "201.3", "12.3", "4.0", "0.5", "2.3", "1.0", "0.5", "4.0", "464",
                "37.1", "0.020", "8.5", "3",
            ])
        #expect(cells[2].prefix(5) == ["db", "backup", "first copy", "0", "-"])
        #expect(Set(lines.map(\.count)).count == 1)
    }

    @Test func theScreenEndsWithWhatHappenedLast() {
        let screen = Top.screen([primary, backup], at: 0)
        #expect(screen[0].hasPrefix("romulus top, ") && screen[0].contains("2 sessions"))
        #expect(screen.last!.hasSuffix("  web  note: protected: all is well"))
    }

    /// A terminal of 80 columns would cut the last ones.
    @Test func aNarrowScreenLeavesThePartsOfThePauseOut() {
        let lines = StatusTable([primary, backup], width: 100).lines
        #expect(lines.allSatisfy { $0.count <= 100 } && lines[0].hasSuffix("HELD") && !lines[0].contains("SUSPEND"))
        #expect(StatusTable([primary], width: 500).lines == StatusTable([primary]).lines)
        #expect(Top.screen([primary], at: 0, width: 80)[2].count <= 80)
    }

    @Test(arguments: [
        ["top", "-d", "0"], ["top", "-n", "0"], ["events", "-n", "-1"], ["status", "a", "b"], ["nonsense"],
    ])
    func whatMakesNoSenseIsRefused(words: [String]) {
        #expect(throws: (any Error).self) { try Romulus.parseAsRoot(words) }
    }
}
