import RomulusCheck
import RomulusHost
import Testing

@testable import romulus_cli

/// Which session is meant by a guest's name, which may have changed since the session began.
@Suite struct SessionTests {
    private let one = "11111111-0000-0000-0000-000000000000"
    private let other = "22222222-0000-0000-0000-000000000000"

    private func session(_ name: String, _ uuid: String, _ side: String = "primary") -> Session {
        Session(socket: "\(uuid).\(side)", status: .object([.init("guest", .string(name))]))
    }

    @Test func aGuestIsFoundByItsPresentName() {
        // web was renamed, and another guest is web now.
        let guests = [LocalGuest(id: 5, uuid: one, name: "web-old"), LocalGuest(id: 6, uuid: other, name: "web")]
        let (old, new) = (session("web", one), session("web", other))
        #expect(old.isOf("web-old", among: guests) && !old.isOf("web", among: guests))
        #expect(new.isOf("web", among: guests) && !new.isOf("web-old", among: guests))
        #expect(old.presentName(among: guests) == "web-old")
    }

    @Test func aNameThatNobodyBearsAnyMoreStillFindsIts() {
        let guests = [LocalGuest(id: 5, uuid: one, name: "web2")]
        #expect(session("web", one).isOf("web", among: guests))
        #expect(!session("web", one).isOf("db", among: guests))
    }

    @Test func aBackupsSessionIsThatOfTheNameThatItReceives() {
        // The same host is primary and backup.
        let guests = [LocalGuest(id: 6, uuid: one, name: "web--incoming"), LocalGuest(id: 5, uuid: one, name: "web2")]
        #expect(session("web", one, "backup").isOf("web", among: guests))
        #expect(session("web", one).presentName(among: guests) == "web2")
    }

    @Test func aNameMayBeANumberOrLongerThanASocketsMayBe() throws {
        let long = String(repeating: "n", count: 200)
        let guests = [LocalGuest(id: 5, uuid: one, name: "12"), LocalGuest(id: 12, uuid: other, name: long)]
        #expect(session("12", one).isOf("12", among: guests) && !session(long, other).isOf("12", among: guests))
        #expect(session(long, other).isOf(long, among: guests))
    }
}
