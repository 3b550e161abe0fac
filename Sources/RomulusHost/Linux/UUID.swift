import CXen

/// A UUID as people write it: 8-4-4-4-12 digits.
public func text(of uuid: libxl_uuid) -> String {
    let digits = Array("0123456789abcdef")
    let bytes = withUnsafeBytes(of: uuid) { Array($0.prefix(16)) }
    var text = ""
    for (index, byte) in bytes.enumerated() {
        if [4, 6, 8, 10].contains(index) { text.append("-") }
        text.append(digits[Int(byte >> 4)])
        text.append(digits[Int(byte & 15)])
    }
    return text
}
