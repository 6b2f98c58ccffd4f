"""Reading headers: what Python reaches of a class and what not."""

from originals.headers import readClasses
from originals.sources import decorations

HEADER = """
#ifndef __qSample_h
#define __qSample_h
class vtkMRMLNode; // a comment; with a { bracket
/// \\brief class qNothing: public QWidget {
class Q_SAMPLE_EXPORT qSample : public QWidget, virtual public vtkThing
{
  Q_OBJECT
  Q_PROPERTY(QString currentPath READ currentPath WRITE setCurrentPath USER true)
  Q_PROPERTY(Qt::Orientation orientation READ orientation)
  Q_FLAGS(Filters)
public:
  typedef QWidget Superclass;
  enum Filter { Dirs = 0x1, Files = 0x2, Both = Dirs | Files };
  Q_DECLARE_FLAGS(Filters, Filter)
  explicit qSample(QWidget* parent = nullptr);
  ~qSample() override;
  Q_INVOKABLE vtkMRMLNode* currentNode() const;
  QString currentPath() const { return this->Path; }
  void setCurrentPath(const QString& path);
  enum Hidden { One, Two };
public Q_SLOTS:
  void browse();
  virtual void setNode(vtkMRMLNode* node, bool quietly = false);
signals:
  void changed(const QString &path, vtkMRMLNode*node, const QList< int >& rows, int step = 0);
protected slots:
  void onBrowsed();
private:
  QString Path;
};
"""
VTK_HEADER = """
class VTK_MRML_EXPORT vtkSample : public vtkObject
{
public:
  static vtkSample* New();
  vtkTypeMacro(vtkSample, vtkObject);
  vtkSetMacro(Width, double);
  vtkGetStringMacro(Label);
  vtkBooleanMacro(Visible, bool);
  enum { FirstEvent = 100, SecondEvent };
  virtual bool Contains(const char* name);
protected:
  vtkSample();
  void Forget();
};
"""


def test_what_python_reaches_of_a_qobject():
    (cls,) = readClasses(HEADER)
    assert (cls.name, cls.bases) == ("qSample", ("QWidget", "vtkThing"))
    assert cls.properties == {"currentPath": "QString", "orientation": "Qt::Orientation"}
    assert cls.callable == {"currentNode", "browse", "setNode"}
    assert cls.values == {"Filter", "Filters", "Dirs", "Files", "Both"}
    assert {"setCurrentPath", "onBrowsed", "Two"}.isdisjoint(cls.reachable)
    assert cls.returns["currentNode"] == "vtkMRMLNode"
    assert cls.constructors == [("QWidget*",)]


def test_signatures_are_as_qt_normalizes_them():
    (cls,) = readClasses(HEADER)
    assert cls.signals == {"changed(QString,vtkMRMLNode*,QList<int>)", "changed(QString,vtkMRMLNode*,QList<int>,int)"}


def test_methods_of_vtk():
    (cls,) = readClasses(VTK_HEADER)
    assert {"SetWidth", "GetLabel", "VisibleOn", "VisibleOff", "FirstEvent", "Contains", "New"} <= cls.methods
    assert {"GetWidth", "SetLabel", "Forget"}.isdisjoint(cls.methods)


def test_decorators():
    text = """
      // public QString ignored(qOther* other);
      QWidget* child(qSample* sample, int n) { return sample->child(n); }
      QString static_qSample_title(int n) { return title(n); }
      qSample* new_qSample(QWidget* parent);
    """
    assert {("qSample", "child"), ("qSample", "title")} <= set(decorations(text))
